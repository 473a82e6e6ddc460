"""A plan of any method drawn on the frames: boxes, ghosts, chains, heat (OpenCV).

Of STTM, boxes are the nodes that it kept. Of other methods a token's patches in a frame are outlined together, and
patches that were dropped turn dark and hatched.

An annotator takes its style when it is made and then draws any plan on any frame: ``annotate(frame, plan, index)``
returns a new picture and leaves the frame alone. Boxes are axis-aligned, so their lines sit on whole pixels: crisp
without anti-aliasing, each drawn just inside its own box so that neighbours never share a pixel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

from sttm_core import MergePlan
from sttm_core.method import Plan

from . import palette
from .canvas import (
    MAX_SIDE,
    check_frame,
    check_frame_index,
    enlarge,
    hatch_dropped,
    outline_regions,
    text_bar,
    to_pixels,
)
from .labels import check_times, frame_name, plan_settings, plan_summary
from .pieces import Pieces, plan_pieces


class Annotator(ABC):
    """Checks its input, enlarges small frames, and draws. Subclasses say what is drawn in `draw`.

    Args:
        line_width: of box outlines in pixels; chosen from the picture's width if left out.
        min_width: narrower frames are enlarged to this width, so that lines stay thin beside the picture.
    """

    def __init__(self, *, line_width: int | None = None, min_width: int = 320) -> None:
        if line_width is not None and line_width < 1:
            raise ValueError(f"line_width must be at least 1 pixel, got {line_width!r}.")
        if not 1 <= min_width <= MAX_SIDE:
            raise ValueError(f"min_width must be from 1 to {MAX_SIDE} pixels, got {min_width!r}.")
        self.line_width, self.min_width = line_width, min_width

    def annotate(self, frame: np.ndarray, plan: Plan, frame_index: int) -> np.ndarray:
        """Draw ``plan`` on a copy of ``frame``.

        Args:
            frame: ``[H, W, 3]`` uint8 RGB, the whole picture that the patch grid covers; any size.
            frame_index: which of the plan's frames this is, from 0.

        Returns:
            ``[H', W', 3]`` uint8 RGB; larger than ``frame`` if that was narrower than ``min_width``.

        Raises:
            ValueError: for a wrong shape or dtype, or a frame that the plan does not have.
        """
        check_frame(frame)
        check_frame_index(plan, frame_index)
        canvas = enlarge(frame, self.min_width)
        self.draw(canvas, plan, frame_index)
        return canvas

    @abstractmethod
    def draw(self, canvas: np.ndarray, plan: Plan, frame_index: int) -> None:
        """Draw in place on ``canvas`` ``[H, W, 3]``, which is already a copy of the right size."""

    def width_for(self, canvas: np.ndarray) -> int:
        return self.line_width or max(1, round(canvas.shape[1] / 560))


class QuadtreeOverlay(Annotator):
    """Outlines of what each frame keeps, coloured by size (paper figure 2): of STTM the quadtree's boxes.

    Args:
        seam: darken a hairline outside each line, so that neighbours of one colour stay apart.
    """

    def __init__(self, *, seam: bool = True, line_width: int | None = None, min_width: int = 320) -> None:
        super().__init__(line_width=line_width, min_width=min_width)
        self.seam = seam

    def draw(self, canvas: np.ndarray, plan: Plan, frame_index: int) -> None:
        pieces = plan_pieces(plan)
        colors = palette.level_colors(pieces.num_levels)[pieces.levels]
        outline_regions(canvas, pieces.of_patch[frame_index], colors, self.width_for(canvas), self.seam)


class GhostOverlay(Annotator):
    """What is left: surviving boxes bright, area merged elsewhere dimmed (paper figure 1), dropped patches hatched.

    Args:
        dim: brightness of the merged area, from 0 (black) to 1 (unchanged); it also loses its colour.
        outline: draw the dimmed area's border, so that it is seen in dark pictures.
    """

    def __init__(
        self, *, dim: float = 0.36, outline: bool = False, line_width: int | None = None, min_width: int = 320
    ) -> None:
        super().__init__(line_width=line_width, min_width=min_width)
        self.dim, self.outline = _share("dim", dim), outline

    def draw(self, canvas: np.ndarray, plan: Plan, frame_index: int) -> None:
        pieces = plan_pieces(plan)
        ghost = to_pixels(pieces.merged_away(frame_index), canvas)
        gray = cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY)
        gray = cv2.addWeighted(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), 0.75, canvas, 0.25, 0)
        np.copyto(canvas, cv2.convertScaleAbs(gray, alpha=self.dim), where=ghost[:, :, None])
        hatch_dropped(canvas, pieces.dropped(frame_index))
        if self.outline:
            white = np.full((len(pieces.tokens), 3), 255, dtype=np.uint8)
            surviving = pieces.shown(frame_index, pieces.stands)
            outline_regions(canvas, surviving, white, self.width_for(canvas), seam=False)


class ChainOverlay(Annotator):
    """Boxes that were merged through time; one chain has one colour in every frame and at every threshold.

    Args:
        highlight: tokens to show alone, the rest of the picture dimmed; all chains (2 members or more) if left out.
        fill: opacity of a box's colour, from 0 to 1.
    """

    def __init__(
        self,
        *,
        highlight: Sequence[int] | None = None,
        fill: float = 0.24,
        line_width: int | None = None,
        min_width: int = 320,
    ) -> None:
        super().__init__(line_width=line_width, min_width=min_width)
        self.highlight = None if highlight is None else [int(token) for token in highlight]
        self.fill = _share("fill", fill)

    def draw(self, canvas: np.ndarray, plan: Plan, frame_index: int) -> None:
        pieces = plan_pieces(plan)
        labels = pieces.shown(frame_index, self._shown(pieces)[pieces.tokens])  # [H, W]
        colors = palette.chain_colors(pieces.token_boxes)[pieces.tokens]  # [M, 3]
        mask = to_pixels(labels >= 0, canvas)[:, :, None]
        tinted = cv2.addWeighted(canvas, 1 - self.fill, to_pixels(colors[labels], canvas), self.fill, 0)
        if self.highlight is not None:
            np.copyto(canvas, cv2.convertScaleAbs(canvas, alpha=0.4), where=~mask)
        np.copyto(canvas, tinted, where=mask)
        width = self.width_for(canvas) * (1 if self.highlight is None else 2)
        outline_regions(canvas, labels, colors, width, seam=True)

    def _shown(self, pieces: Pieces) -> np.ndarray:
        """``[N]`` bool."""
        if self.highlight is None:
            return pieces.piece_counts >= 2
        shown = np.zeros(len(pieces.patch_counts), dtype=bool)
        for token in self.highlight:
            if not 0 <= token < len(shown):
                raise ValueError(f"highlight names token {token}, but the plan has tokens 0 to {len(shown) - 1}.")
            shown[token] = True
        return shown


class HeatOverlay(Annotator):
    """How many patches the token at each place stands for, on a logarithmic scale that no threshold moves.

    The scale ends at the most that a token can stand for, see `heat_limit`. Dropped patches are hatched.

    Args:
        opacity: of the colours over the picture, from 0 to 1.
    """

    def __init__(self, *, opacity: float = 0.6, line_width: int | None = None, min_width: int = 320) -> None:
        super().__init__(line_width=line_width, min_width=min_width)
        self.opacity = _share("opacity", opacity)

    def draw(self, canvas: np.ndarray, plan: Plan, frame_index: int) -> None:
        pieces = plan_pieces(plan)
        token = pieces.member_of[frame_index]
        counts = np.where(token < 0, 1, pieces.patch_counts[token])  # [H, W]
        colors = palette.heat_colors(np.log(counts) / max(np.log(heat_limit(plan)), 1e-9))
        gray = cv2.cvtColor(cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        canvas[:] = cv2.addWeighted(gray, 1 - self.opacity, to_pixels(colors, canvas), self.opacity, 0)
        hatch_dropped(canvas, pieces.dropped(frame_index))


class Mixed(Annotator):
    """Several annotators over each other, the first at the bottom: ``Mixed([GhostOverlay(), QuadtreeOverlay()])``.

    Frames are enlarged once, to the largest ``min_width`` among them.
    """

    def __init__(self, annotators: Iterable[Annotator]) -> None:
        self.annotators = list(annotators)
        strangers = [type(a).__name__ for a in self.annotators if not isinstance(a, Annotator)]
        if not self.annotators or strangers:
            raise ValueError(
                f"Mixed needs at least one annotator and nothing else, got {strangers or 'an empty list'}."
            )
        super().__init__(min_width=max(a.min_width for a in self.annotators))

    def draw(self, canvas: np.ndarray, plan: Plan, frame_index: int) -> None:
        for annotator in self.annotators:
            annotator.draw(canvas, plan, frame_index)


def heat_limit(plan: Plan) -> int:
    """Most patches that any token of this video can stand for, whatever the knobs.

    A chain of STTM never leaves its root cell: one cell over all frames. Tokens of other methods may stand for all.
    """
    return int(plan.tree.patch_counts.max()) * plan.num_frames if isinstance(plan, MergePlan) else plan.num_patches


def render_strip(
    frames: np.ndarray,
    plan: Plan,
    annotator: Annotator,
    columns: int = 8,
    *,
    times: Sequence[float] | None = None,
    tile_width: int = 320,
    dark: bool = False,
) -> np.ndarray:
    """Contact sheet: every frame annotated, with its time and how many tokens it keeps.

    Args:
        frames: ``[T, H, W, 3]`` uint8, the frames of the plan.
        times: ``[T]`` seconds, true timestamps; only frame numbers are shown if left out.
        tile_width: pixels a frame; frames are resized before they are drawn on, so that lines stay crisp.

    Returns:
        ``[height, width, 3]`` uint8.

    Raises:
        ValueError: for frames, times or columns that do not fit.
    """
    check_frames(frames, plan, times)
    if columns < 1 or not 16 <= tile_width <= MAX_SIDE:
        raise ValueError(f"columns must be at least 1 and tile_width 16 to {MAX_SIDE}, got {columns}, {tile_width}.")
    theme = palette.theme(dark)
    tiles = [_tile(frames[t], plan, annotator, t, times, tile_width, theme) for t in range(plan.num_frames)]
    columns = min(columns, len(tiles))
    rows, gap, (height, width) = -(-len(tiles) // columns), max(4, tile_width // 40), tiles[0].shape[:2]
    size = (rows * height + (rows + 1) * gap, columns * width + (columns + 1) * gap, 3)
    sheet = np.full(size, palette.rgb(theme.surface), dtype=np.uint8)
    for index, tile in enumerate(tiles):
        y, x = gap + index // columns * (height + gap), gap + index % columns * (width + gap)
        sheet[y : y + height, x : x + width] = tile
    return sheet


def _tile(frame, plan: Plan, annotator: Annotator, index: int, times, width: int, theme) -> np.ndarray:
    height = max(1, round(frame.shape[0] * width / frame.shape[1]))
    shrinks = width < frame.shape[1]
    small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    picture = annotator.annotate(small, plan, index)
    bar = max(14, picture.shape[1] // 13)
    kept = f"{int(plan.tokens_per_frame[index])} kept"
    label = text_bar(picture.shape[1], bar, frame_name(index, times), kept, ink=theme.text, surface=theme.surface)
    return np.concatenate([picture, label])


def render_video(
    frames: np.ndarray,
    plan: Plan,
    annotator: Annotator,
    *,
    times: Sequence[float] | None = None,
    width: int | None = None,
    dark: bool = True,
) -> Iterator[np.ndarray]:
    """The frames of an annotated video, under each a caption: frame, kept tokens, retention, knobs.

    Args:
        frames: ``[T, H, W, 3]`` uint8, the frames of the plan.
        times: ``[T]`` seconds; only frame numbers are shown if left out.
        width: of the video in pixels; that of the frames if left out.

    Returns:
        An iterator of T ``[height, width, 3]`` uint8 pictures of one size with even sides, as H.264 needs them.

    Raises:
        ValueError: at once, for frames or times that do not fit the plan.
    """
    check_frames(frames, plan, times)
    if width is not None and not 16 <= width <= MAX_SIDE:
        raise ValueError(f"width must be from 16 to {MAX_SIDE} pixels, got {width!r}.")
    return (_captioned(frames[t], plan, annotator, t, times, width, palette.theme(dark)) for t in range(len(frames)))


def _captioned(frame, plan: Plan, annotator: Annotator, index: int, times, width: int | None, theme) -> np.ndarray:
    if width is not None and width != frame.shape[1]:
        size = (width, max(1, round(frame.shape[0] * width / frame.shape[1])))
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if width < frame.shape[1] else cv2.INTER_CUBIC)
    picture = annotator.annotate(frame, plan, index)
    wide = picture.shape[1]
    bar = max(18, wide // 26)
    kept = f"{int(plan.tokens_per_frame[index])} of {plan.num_patches // plan.num_frames} kept here"
    lines = [
        text_bar(wide, bar, frame_name(index, times), kept, ink=theme.text, surface=theme.surface, bold=True),
        text_bar(wide, bar, plan_summary(plan), plan_settings(plan), ink=theme.muted, surface=theme.surface),
    ]
    page = np.concatenate([picture, *lines])
    pad = ((0, page.shape[0] % 2), (0, page.shape[1] % 2), (0, 0))
    return np.pad(page, pad, mode="edge")


def check_frames(frames: np.ndarray, plan: Plan, times: Sequence[float] | None = None) -> None:
    """ValueError unless ``frames`` are the plan's, ``[T, H, W, 3]`` uint8, and ``times`` are as many."""
    if not isinstance(frames, np.ndarray) or frames.ndim != 4:
        found = list(frames.shape) if isinstance(frames, np.ndarray) else type(frames).__name__
        raise ValueError(f"frames must be a NumPy array of uint8 [T, H, W, 3], got {found}.")
    if len(frames) != plan.num_frames:
        raise ValueError(f"frames must be the plan's {plan.num_frames} frames, got {len(frames)}.")
    check_frame(frames[0])
    check_times(times, plan.num_frames)


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {value!r}.")
    return float(value)
