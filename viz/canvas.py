"""Under the annotators: a plan's arrays, the way from patches to pixels, lines, text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sttm_core import MergePlan

MAX_SIDE = 4096  # small frames are not enlarged beyond this, whatever their shape


@dataclass(frozen=True, eq=False)
class PlanArrays:
    """What pictures need of a plan, as NumPy arrays on the CPU.

    Attributes:
        boxes: ``[M, 4]`` (y0, x0, y1, x1) of each kept node in patches; ``levels``, ``tokens``: ``[M]``.
        frame_starts: ``[T+1]``, kept nodes of frame t are ``frame_starts[t]:frame_starts[t+1]``.
        representative: ``[M]`` bool, the node whose box its token reports.
        member_counts, patch_counts: ``[N]``; ``token_boxes``: ``[N, 5]``; ``member_of``: ``[T, H, W]``.
        node_of_patch: ``[T, H, W]``, the kept node that covers each patch.
    """

    boxes: np.ndarray
    levels: np.ndarray
    tokens: np.ndarray
    frame_starts: np.ndarray
    representative: np.ndarray
    member_counts: np.ndarray
    patch_counts: np.ndarray
    token_boxes: np.ndarray
    member_of: np.ndarray
    node_of_patch: np.ndarray

    def nodes(self, frame_index: int) -> np.ndarray:
        """Indices of the nodes kept in one frame."""
        return np.arange(self.frame_starts[frame_index], self.frame_starts[frame_index + 1])

    def survives(self, frame_index: int) -> np.ndarray:
        """``[H, W]`` bool: patches under a box that stands for a token, not merged into an earlier frame."""
        return self.representative[self.node_of_patch[frame_index]]


@lru_cache(maxsize=8)
def plan_arrays(plan: MergePlan) -> PlanArrays:
    """The plan's arrays, brought to the CPU once a plan."""
    plan = plan.to("cpu")
    tokens, frames = plan.node_tokens.numpy(), plan.node_frames.numpy()
    first = np.unique(tokens, return_index=True)[1]  # scan order: the first member represents its token
    representative = np.zeros(len(tokens), dtype=bool)
    representative[first] = True
    return PlanArrays(
        boxes=plan.node_boxes[:, 1:].numpy(),
        levels=plan.tree.levels[plan.node_ids.numpy()],
        tokens=tokens,
        frame_starts=np.searchsorted(frames, np.arange(plan.num_frames + 1)),
        representative=representative,
        member_counts=plan.member_counts.numpy(),
        patch_counts=plan.patch_counts.numpy(),
        token_boxes=plan.boxes.numpy(),
        member_of=plan.member_of.numpy(),
        node_of_patch=plan.node_of_patch.numpy(),
    )


def pixel_edges(patches: int, pixels: int) -> np.ndarray:
    """``[patches+1]``: the pixel at which each patch begins, along an axis of ``pixels``."""
    return (np.arange(patches + 1) * pixels * 2 + patches) // (2 * patches)  # rounded half up, in integers


def check_frame(frame: np.ndarray) -> None:
    """ValueError unless ``frame`` is a picture, ``[H, W, 3]`` uint8."""
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        found = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise ValueError(f"frame must be a NumPy array of uint8 [H, W, 3], got {found}.")
    if 0 in frame.shape:
        raise ValueError(f"frame must have at least one pixel, got shape {list(frame.shape)}.")


def check_frame_index(plan: MergePlan, frame_index: int) -> None:
    """ValueError unless the plan has this frame."""
    if not 0 <= frame_index < plan.num_frames:
        raise ValueError(f"frame_index must be from 0 to {plan.num_frames - 1}, got {frame_index!r}.")


def enlarge(frame: np.ndarray, min_width: int) -> np.ndarray:
    """A copy of ``frame``, enlarged to ``min_width`` if it is narrower."""
    height, width = frame.shape[:2]
    scale = min(min_width / width, MAX_SIDE / max(height, width))
    if scale <= 1:
        return np.array(frame, order="C")
    size = (round(width * scale), max(1, round(height * scale)))
    return cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC)


def to_pixels(values: np.ndarray, canvas: np.ndarray) -> np.ndarray:
    """``[H, W, ...]`` per patch -> ``[pixels, pixels, ...]``: every pixel gets its patch's value."""
    rows = np.diff(pixel_edges(values.shape[0], canvas.shape[0]))
    columns = np.diff(pixel_edges(values.shape[1], canvas.shape[1]))
    return np.repeat(np.repeat(values, columns, axis=1), rows, axis=0)


def pixel_boxes(canvas: np.ndarray, plan: MergePlan, boxes: np.ndarray) -> np.ndarray:
    """``[n, 4]`` boxes in patches -> in pixels of ``canvas``; y0, x0, y1, x1, half open."""
    ys = pixel_edges(plan.tree.height, canvas.shape[0])
    xs = pixel_edges(plan.tree.width, canvas.shape[1])
    return np.stack([ys[boxes[:, 0]], xs[boxes[:, 1]], ys[boxes[:, 2]], xs[boxes[:, 3]]], axis=1)


def outline_boxes(canvas: np.ndarray, boxes: np.ndarray, colors: np.ndarray, width: int, seam: bool) -> None:
    """Outline pixel ``boxes [n, 4]`` in ``colors [n, 3]``, inside their borders.

    ``seam`` leaves a hairline of the picture at half brightness outside each line: neighbours of one colour stay apart.
    """
    inset = int(seam)
    for (y0, x0, y1, x1), color in zip(boxes.tolist(), colors, strict=True):
        if seam:
            _darken_border(canvas[y0:y1, x0:x1])
        _outline(canvas[y0 + inset : max(0, y1 - inset), x0 + inset : max(0, x1 - inset)], color, width)


def _darken_border(area: np.ndarray) -> None:
    for line in (area[:1], area[-1:] if len(area) > 1 else area[:0], area[1:-1, :1], area[1:-1, 1:][:, -1:]):
        line >>= 1


def _outline(area: np.ndarray, color: np.ndarray, width: int) -> None:
    if not area.size:
        return
    area[:width] = area[-width:] = color
    area[:, :width] = area[:, -width:] = color


@lru_cache(maxsize=32)
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which Matplotlib brings along: it has the Greek letters that OpenCV's own fonts lack."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def text_bar(
    width: int, height: int, left: str, right: str = "", *, ink: str, surface: str, bold: bool = False
) -> np.ndarray:
    """``[height, width, 3]`` uint8: one line of text on a plain bar, made smaller until both parts fit."""
    bar = Image.new("RGB", (width, height), surface)
    draw, margin = ImageDraw.Draw(bar), max(2, height // 4)
    size = max(6, round(height * 0.56))
    while size > 6 and _needed(left, right, size, bold) > width - 2 * margin:
        size -= 1
    draw.text((margin, height / 2), left, fill=ink, font=font(size, bold), anchor="lm")
    if right:
        draw.text((width - margin, height / 2), right, fill=ink, font=font(size, bold), anchor="rm")
    return np.array(bar)


def _needed(left: str, right: str, size: int, bold: bool) -> float:
    gap = 2 * size if right else 0
    return font(size, bold).getlength(left) + gap + font(size, bold).getlength(right)
