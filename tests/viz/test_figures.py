"""Paper figures: their shapes are the plan's boxes, their bars the timings; no state outlives them."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf
from matplotlib.collections import PatchCollection

from tests.viz.hand_plan import BOXES, CHAINED, hand_plan, noise_frames
from viz.figures import merge_figure, ttft_figure
from viz.palette import LEVELS, rgb

ROWS = [
    {"label": "All tokens", "timings": {"vision": 0.4, "prefill": 0.8}},
    {"label": "Merged", "retention": 0.3, "timings": {"vision": 0.4, "merge": 0.01, "prefill": 0.19}},
]


def boxes_drawn(axis) -> list[tuple[int, ...]]:
    """(y0, x0, y1, x1) in patches of every box of an axis, from its paths."""
    (collection,) = [c for c in axis.collections if isinstance(c, PatchCollection)]
    extents = [path.get_extents() for path in collection.get_paths()]
    return [(round(e.y0), round(e.x0), round(e.y1), round(e.x1)) for e in extents]


def test_merge_figure_draws_the_plan():
    frames = noise_frames(60, 100)
    figure = merge_figure(frames, hand_plan(), [0, 1], [0.0, 61.5])
    axes = np.array(figure.axes).reshape(3, 2)
    for column in range(2):
        assert boxes_drawn(axes[1, column]) == list(BOXES)
        assert boxes_drawn(axes[2, column]) == list(CHAINED)
        assert np.array_equal(axes[0, column].images[0].get_array(), frames[column])
    assert [axis.get_title() for axis in axes[0]] == ["0:00.0", "1:01.5"]
    assert [axis.get_xlabel() for axis in axes[2]] == ["7 kept", "5 kept"]
    ghost = np.asarray(axes[2, 1].images[0].get_array())
    assert (
        np.array_equal(ghost[:30, 50:], frames[1][:30, 50:]) and ghost[:30, :50].mean() < frames[1][:30, :50].mean() / 2
    )
    (collection,) = axes[1, 0].collections
    expected = [rgb(LEVELS[1])] * 3 + [rgb(LEVELS[0])] * 4
    assert (collection.get_edgecolors()[:, :3] * 255).round().tolist() == [list(color) for color in expected]
    assert "37.5% kept: 12 of 32 tokens" in figure.get_suptitle()


def test_ttft_figure_draws_the_timings():
    figure = ttft_figure(ROWS)
    (axis,) = figure.axes
    bars = [(round(bar.get_x(), 6), round(bar.get_width(), 6)) for bar in axis.patches]
    assert bars == [
        (0, 0), (0, 0.4), (0.4, 0), (0.4, 0.8), (1.2, 0),
        (0, 0), (0, 0.4), (0.4, 0.01), (0.41, 0.19), (0.6, 0),
    ]  # fmt: skip
    assert [label.get_text() for label in axis.get_yticklabels()] == ["All tokens", "Merged, 30%"]
    texts = [text.get_text() for text in axis.texts]
    assert "1.20 s" in texts and "600 ms  (2.00×)" in texts
    top, bottom = axis.get_ylim()[1], axis.get_ylim()[0]
    assert top < 0 < bottom  # the first row, the baseline, is on top


@pytest.mark.parametrize(("suffix", "magic"), [("pdf", b"%PDF"), ("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_figures_save_in_every_format(suffix, magic):
    for figure in (merge_figure(noise_frames(30, 40), hand_plan(), [1]), ttft_figure(ROWS)):
        file = io.BytesIO()
        figure.savefig(file, format=suffix)
        assert file.getvalue().startswith(magic)


def test_threads_draw_the_same_picture():
    frames, plan = noise_frames(30, 40), hand_plan()

    def draw(_):
        file = io.BytesIO()
        merge_figure(frames, plan, [0, 1]).savefig(file, format="png", metadata={"Software": None})
        return file.getvalue()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(draw, range(8)))) == 1


def test_figures_leave_no_global_state():
    before = list(Gcf.figs)  # pyplot's register of open figures
    merge_figure(noise_frames(8, 8), hand_plan(), [0])
    ttft_figure(ROWS)
    assert list(Gcf.figs) == before


@pytest.mark.parametrize(
    ("frames", "indices", "times", "message"),
    [
        (noise_frames(8, 8), [], None, "at least one frame"),
        (noise_frames(8, 8), [2], None, "frame_index must be from 0 to 1"),
        (noise_frames(8, 8), [0], [0.0], "times must hold"),
        (noise_frames(8, 8, count=3), [0], None, "the plan's 2 frames"),
    ],
)
def test_merge_figure_refuses(frames, indices, times, message):
    with pytest.raises(ValueError, match=message):
        merge_figure(frames, hand_plan(), indices, times)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least the baseline"),
        ([{"label": "a"}], "needs 'timings'"),
        ([{"label": "a", "timings": {"x": 1}}], "unknown stage"),
    ],
)
def test_ttft_figure_refuses(rows, message):
    with pytest.raises(ValueError, match=message):
        ttft_figure(rows)
