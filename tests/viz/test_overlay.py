"""Annotators against pixels worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sttm_core import Quadtree, similarity_tables
from tests.viz.hand_plan import BOXES, CHAINED, hand_plan, hand_tables, noise_frames
from viz.canvas import pixel_edges, text_bar
from viz.overlay import (
    ChainOverlay,
    GhostOverlay,
    HeatOverlay,
    Mixed,
    QuadtreeOverlay,
    heat_limit,
    render_strip,
    render_video,
)
from viz.palette import CHAINS, LEVELS, rgb

ALL = [QuadtreeOverlay(), GhostOverlay(), ChainOverlay(), HeatOverlay(), Mixed([GhostOverlay(), ChainOverlay()])]


def outline_mask(boxes, cell_y: int, cell_x: int, width: int) -> np.ndarray:
    """Pixels within ``width`` of the inside of a box's border, by asking every pixel of a 4x4 grid."""
    mask = np.zeros((4 * cell_y, 4 * cell_x), dtype=bool)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            for y0, x0, y1, x1 in boxes:
                top, left, bottom, right = y0 * cell_y, x0 * cell_x, y1 * cell_y, x1 * cell_x
                if top <= y < bottom and left <= x < right:
                    mask[y, x] |= min(y - top, bottom - 1 - y, x - left, right - 1 - x) < width
    return mask


def area_mask(boxes, cell_y: int, cell_x: int) -> np.ndarray:
    mask = np.zeros((4 * cell_y, 4 * cell_x), dtype=bool)
    for y0, x0, y1, x1 in boxes:
        mask[y0 * cell_y : y1 * cell_y, x0 * cell_x : x1 * cell_x] = True
    return mask


@pytest.mark.parametrize("line_width", [1, 3])
def test_quadtree_draws_borders_and_nothing_inside(line_width):
    frame = noise_frames(80, 120)[0]
    drawn = QuadtreeOverlay(seam=False, line_width=line_width, min_width=1).annotate(frame, hand_plan(), 0)
    expected = outline_mask(BOXES, 20, 30, line_width)
    assert np.array_equal((drawn != frame).any(axis=-1), expected)
    fine, coarse = rgb(LEVELS[0]), rgb(LEVELS[1])
    in_split_quarter = np.zeros_like(expected)
    in_split_quarter[40:, 60:] = True
    assert (drawn[expected & in_split_quarter] == fine).all()
    assert (drawn[expected & ~in_split_quarter] == coarse).all()


def test_seam_is_half_as_bright_and_one_pixel_outside_the_line():
    frame = noise_frames(80, 120)[0]
    drawn = QuadtreeOverlay(line_width=2, min_width=1).annotate(frame, hand_plan(), 0)
    seam, border = outline_mask(BOXES, 20, 30, 1), outline_mask(BOXES, 20, 30, 3)
    assert np.array_equal(drawn[seam], frame[seam] // 2)
    assert np.array_equal(drawn[~border], frame[~border])


def test_line_width_grows_with_the_picture():
    plan = hand_plan()
    narrow, wide = (
        QuadtreeOverlay(seam=False, min_width=1).annotate(np.zeros((s, s, 3), np.uint8), plan, 0) for s in (400, 1600)
    )
    assert [int((picture[5:-5, 20].any(axis=-1)).sum()) > 0 for picture in (narrow, wide)] == [True, True]
    run = [int(np.argmin(picture[picture.shape[0] // 8].any(axis=-1))) for picture in (narrow, wide)]
    assert run == [1, 3]


def test_ghost_keeps_representatives_and_dims_the_rest():
    frame = noise_frames(80, 120)[1]
    plan = hand_plan()
    drawn = GhostOverlay(dim=0.3, min_width=1).annotate(frame, plan, 1)
    merged = area_mask(CHAINED, 20, 30)
    assert np.array_equal(drawn[~merged], frame[~merged])
    assert (drawn[merged].max(axis=-1) < 0.31 * 251).all()
    assert np.array_equal(GhostOverlay(min_width=1).annotate(frame, plan, 0), frame)  # nothing comes before frame 0
    outlined = GhostOverlay(dim=0.3, outline=True, line_width=1, min_width=1).annotate(frame, plan, 1)
    lines = outline_mask([box for box in BOXES if box not in CHAINED], 20, 30, 1)
    assert (outlined[lines] == 255).all() and np.array_equal(outlined[~lines], drawn[~lines])


@pytest.mark.parametrize(
    ("patches", "pixels", "edges"), [(3, 10, [0, 3, 7, 10]), (4, 8, [0, 2, 4, 6, 8]), (4, 2, [0, 1, 1, 2, 2])]
)
def test_patches_begin_at_the_nearest_pixel(patches, pixels, edges):
    assert pixel_edges(patches, pixels).tolist() == edges


def test_text_is_made_smaller_until_both_parts_fit():
    def blanks(bar) -> int:
        """The widest run of columns without ink between the first and the last that have some."""
        inked = np.flatnonzero((bar != 255).any(axis=(0, 2)))
        return int(np.diff(inked).max())

    roomy, narrow = (
        text_bar(width, 40, "frame 7, 0:03.5", "702 of 3136 kept", ink="#000000", surface="#FFFFFF")
        for width in (900, 260)
    )
    assert blanks(roomy) > 300 and blanks(narrow) > 15
    assert np.flatnonzero((narrow != 255).any(axis=(0, 2)))[[0, -1]].tolist() != [0, 259]


def test_chains_mark_their_members_in_every_frame_with_one_colour():
    plan = hand_plan()
    pictures = [ChainOverlay(fill=0.2, min_width=1).annotate(noise_frames(80, 120)[t], plan, t) for t in range(2)]
    for y0, x0, _, _ in CHAINED:
        color = rgb(CHAINS[(y0 + 4 * x0) % len(CHAINS)])  # both chains begin in frame 0
        assert all(tuple(picture[y0 * 20 + 1, x0 * 30 + 1]) == color for picture in pictures)
    outside = ~area_mask(CHAINED, 20, 30)
    assert all(np.array_equal(p[outside], f[outside]) for p, f in zip(pictures, noise_frames(80, 120), strict=True))


def test_chain_colour_survives_a_move_of_the_thresholds():
    frame, tables = noise_frames(80, 120)[1], hand_tables()
    before = ChainOverlay(min_width=1).annotate(frame, tables.plan(0.8, 0.8), 1)
    after = ChainOverlay(min_width=1).annotate(frame, tables.plan(0.4, 0.85), 1)  # the split quarter is whole now
    assert tables.plan(0.8, 0.8).num_tokens != tables.plan(0.4, 0.85).num_tokens
    assert np.array_equal(before[:40, :60], after[:40, :60])


def test_highlight_shows_one_token_and_dims_the_others():
    frame = noise_frames(80, 120)[1]
    drawn = ChainOverlay(highlight=[0], fill=0.0, line_width=1, min_width=1).annotate(frame, hand_plan(), 1)
    box = area_mask([CHAINED[0]], 20, 30)
    border = outline_mask([CHAINED[0]], 20, 30, 3)  # a seam and a line of double width
    assert np.array_equal(drawn[box & ~border], frame[box & ~border])
    assert np.abs(drawn[~box] - frame[~box] * 0.4).max() <= 1
    line = border & ~outline_mask([CHAINED[0]], 20, 30, 1)  # inside the seam
    assert (drawn[line] == rgb(CHAINS[0])).all()
    with pytest.raises(ValueError, match="highlight names token 99"):
        ChainOverlay(highlight=[99]).annotate(frame, hand_plan(), 1)


def test_heat_depends_on_patches_a_token_stands_for():
    plan = hand_plan()
    drawn = HeatOverlay(opacity=1.0, min_width=1).annotate(noise_frames(80, 120)[0], plan, 0)
    assert heat_limit(plan) == 8
    brightness = {box: drawn[box[0] * 20 + 5, box[1] * 30 + 5].astype(int).sum() for box in BOXES}
    #         stands for 1 patch          2 patches                  4 patches                  8 patches
    assert brightness[2, 2, 3, 3] < brightness[3, 3, 4, 4] < brightness[0, 2, 2, 4] < brightness[0, 0, 2, 2]
    assert tuple(drawn[5, 5]) == (0xFC, 0xFF, 0xA4) and tuple(drawn[45, 65]) == (0, 0, 4)


def test_mixed_is_one_after_the_other():
    frame, plan = noise_frames(80, 120)[1], hand_plan()
    ghost, tree = GhostOverlay(min_width=1), QuadtreeOverlay(min_width=1)
    expected = tree.annotate(ghost.annotate(frame, plan, 1), plan, 1)
    assert np.array_equal(Mixed([ghost, tree]).annotate(frame, plan, 1), expected)


@pytest.mark.parametrize("annotator", ALL, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (31, 47), (240, 320), (5, 2000)])
def test_any_frame_size_and_input_untouched(annotator, size):
    frame = noise_frames(*size)[0]
    copy = frame.copy()
    drawn = annotator.annotate(frame, hand_plan(), 1)
    assert np.array_equal(frame, copy) and not np.shares_memory(drawn, frame)
    assert drawn.dtype == np.uint8 and drawn.flags.c_contiguous
    assert drawn.shape[1] == max(size[1], 320) and max(drawn.shape[:2]) <= 4096


@pytest.mark.parametrize("grid", [(14, 14), (12, 20), (7, 9), (1, 5), (2, 2), (33, 3)])
def test_every_grid_is_covered_once(grid):
    """Chains, ghost and quadtree on random features: each box's outline lies at its own pixels."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(3, *grid, 8, generator=generator) + 2.0
    plan = similarity_tables(tokens, Quadtree(*grid)).plan(0.85, 0.8)
    frame = np.zeros((grid[0] * 9, grid[1] * 9, 3), np.uint8)
    for t in range(3):
        drawn = QuadtreeOverlay(seam=False, line_width=1, min_width=1).annotate(frame, plan, t)
        expected = np.zeros(frame.shape[:2], bool)
        for f, y0, x0, y1, x1 in plan.node_boxes.tolist():
            if f == t:
                expected[y0 * 9, x0 * 9 : x1 * 9] = expected[y1 * 9 - 1, x0 * 9 : x1 * 9] = True
                expected[y0 * 9 : y1 * 9, x0 * 9] = expected[y0 * 9 : y1 * 9, x1 * 9 - 1] = True
        assert np.array_equal(drawn.any(axis=-1), expected)


GOOD = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("frame", "index", "message"),
    [
        (GOOD.astype(np.float32), 0, r"uint8 \[H, W, 3\], got float32"),
        (GOOD[:, :, 0], 0, r"got uint8 \[8, 8\]"),
        (np.zeros((8, 8, 4), np.uint8), 0, "got uint8"),
        (np.zeros((0, 8, 3), np.uint8), 0, "at least one pixel"),
        ([[1]], 0, "got list"),
        (GOOD, 2, "frame_index must be from 0 to 1, got 2"),
        (GOOD, -1, "frame_index must be from 0 to 1"),
    ],
)
def test_bad_input_is_refused(frame, index, message):
    with pytest.raises(ValueError, match=message):
        QuadtreeOverlay().annotate(frame, hand_plan(), index)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QuadtreeOverlay(line_width=0), "line_width"),
        (lambda: QuadtreeOverlay(min_width=0), "min_width"),
        (lambda: GhostOverlay(dim=1.5), "dim must be from 0 to 1"),
        (lambda: ChainOverlay(fill=-0.1), "fill"),
        (lambda: HeatOverlay(opacity=float("nan")), "opacity"),
        (lambda: Mixed([]), "at least one annotator"),
        (lambda: Mixed([GhostOverlay(), "quad"]), "str"),
    ],
)
def test_bad_style_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_strip_holds_every_tile_and_its_label():
    frames, plan = np.full((2, 90, 160, 3), 200, np.uint8), hand_plan()
    sheet = render_strip(frames, plan, GhostOverlay(dim=0.0, min_width=1), 2, times=[0.0, 61.5], tile_width=160)
    bar, gap = 14, 4
    assert sheet.shape == (90 + bar + 2 * gap, 2 * 160 + 3 * gap, 3)
    first, second = sheet[gap : gap + 90, gap : gap + 160], sheet[gap : gap + 90, 2 * gap + 160 : 2 * gap + 320]
    assert (first == 200).all() and not second[:45, :80].any() and (second[:45, 80:] == 200).all()
    labels = [sheet[gap + 90 : gap + 90 + bar, x : x + 160] for x in (gap, 2 * gap + 160)]
    assert all((label < 128).any() for label in labels) and not np.array_equal(*labels)
    assert render_strip(frames, plan, GhostOverlay(), 1, tile_width=160).shape[0] > sheet.shape[0]


@pytest.mark.parametrize(("size", "width"), [((45, 81), None), ((90, 160), 321), ((9, 16), 500)])
def test_video_frames_have_one_even_size_and_a_caption(size, width):
    frames, plan = noise_frames(*size), hand_plan()
    pages = list(render_video(frames, plan, Mixed([GhostOverlay(), QuadtreeOverlay()]), times=[0.0, 0.5], width=width))
    assert len(pages) == 2 and len({page.shape for page in pages}) == 1
    height, wide = pages[0].shape[:2]
    assert height % 2 == 0 and wide % 2 == 0 and wide >= max(320, width or 0)
    caption = height - 2 * max(18, wide // 26)
    assert (pages[0][caption + 4 :] > 180).any() and (pages[0][caption + 4 :].mean() < 80)


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        (np.zeros((3, 8, 8, 3), np.uint8), {}, "the plan's 2 frames, got 3"),
        (GOOD, {}, r"\[T, H, W, 3\]"),
        (np.zeros((2, 8, 8, 3), np.float32), {}, "float32"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"times": [0.0]}, "times must hold one time for each of the 2 frames"),
    ],
)
def test_strip_and_video_refuse_at_once(frames, options, message):
    for render in (render_strip, render_video):
        with pytest.raises(ValueError, match=message):
            render(frames, hand_plan(), GhostOverlay(), **options)
    with pytest.raises(ValueError, match="columns"):
        render_strip(np.zeros((2, 8, 8, 3), np.uint8), hand_plan(), GhostOverlay(), 0)
    with pytest.raises(ValueError, match="width"):
        render_video(np.zeros((2, 8, 8, 3), np.uint8), hand_plan(), GhostOverlay(), width=3)
