"""Under the annotators: the way from patches to pixels, lines, hatching, text."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sttm_core.method import Plan

MAX_SIDE = 4096  # small frames are not enlarged beyond this, whatever their shape
DROPPED_DIM, HATCH = 0.22, 96  # brightness left of a dropped patch, and the grey of the lines over it


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


def check_frame_index(plan: Plan, frame_index: int) -> None:
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


def outline_regions(canvas: np.ndarray, labels: np.ndarray, colors: np.ndarray, width: int, seam: bool) -> None:
    """Outline the regions of equal ``labels [H, W]`` (in patches; -1 is none) in ``colors [labels, 3]``.

    Lines lie inside the borders of their region. ``seam`` leaves a hairline of the picture at half brightness outside
    each line: neighbours of one colour stay apart.
    """
    pixels = to_pixels(labels, canvas)
    inside, inset = pixels >= 0, int(seam)
    line = inside & _near_border(pixels, width + inset)
    if seam:
        hairline = inside & _near_border(pixels, inset)
        canvas[hairline] >>= 1
        line &= ~hairline
    canvas[line] = colors[pixels[line]]


def _near_border(labels: np.ndarray, width: int) -> np.ndarray:
    """``[H, W]`` bool: pixels with another label, or the picture's end, at most ``width`` away."""
    padded = np.pad(labels.astype(np.float32), width, constant_values=-2)  # float32: exact to 2^24, and OpenCV has it
    around = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    differs = cv2.erode(padded, around) != cv2.dilate(padded, around)
    return differs[width:-width, width:-width]


def hatch_dropped(canvas: np.ndarray, dropped: np.ndarray) -> None:
    """Patches ``dropped [H, W]`` (bool) turn dark grey with diagonal lines: nothing is left of them."""
    mask = to_pixels(dropped, canvas)
    if not mask.any():
        return
    gray = cv2.cvtColor(cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    dark = cv2.convertScaleAbs(gray, alpha=DROPPED_DIM)
    period = max(4, canvas.shape[1] // 60)
    ys, xs = np.ogrid[: canvas.shape[0], : canvas.shape[1]]
    dark[(xs + ys) % period < max(1, period // 6)] = HATCH
    np.copyto(canvas, dark, where=mask[:, :, None])


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
