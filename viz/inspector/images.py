"""Frames as small JPEG files, for a page: large ones for the stage, one sheet of small ones for the filmstrip."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SHEET_COLUMNS = 16
MOST_BYTES = 96_000  # of one stage frame: 64 of them, in base64, leave an exported page below 10 MB
LOWEST_QUALITY = 20


@dataclass(frozen=True)
class FrameFiles:
    """JPEG bytes of a video's frames.

    Attributes:
        stage: one file per frame; ``size`` is their ``(width, height)``.
        sheet: all frames small, ``columns`` to a row, in scan order; ``thumb`` is the ``(width, height)`` of one.
    """

    stage: tuple[bytes, ...]
    size: tuple[int, int]
    sheet: bytes
    thumb: tuple[int, int]
    columns: int

    @property
    def nbytes(self) -> int:
        return sum(map(len, self.stage)) + len(self.sheet)


def encode_frames(frames: np.ndarray, stage_side: int = 640, thumb_side: int = 112, quality: int = 82) -> FrameFiles:
    """Shrink ``frames [T, H, W, 3]`` uint8 RGB to a longest side of so many pixels, and compress them."""
    stage, thumbs = [], []
    for frame in frames:
        large = _shrink(frame, stage_side)
        stage.append(_jpeg_within(large, quality, MOST_BYTES))
        thumbs.append(_shrink(large, thumb_side))
    columns = min(SHEET_COLUMNS, len(thumbs))
    sheet = _tile(thumbs, columns)
    return FrameFiles(tuple(stage), large.shape[1::-1], _jpeg(sheet, quality), thumbs[0].shape[1::-1], columns)


def _shrink(frame: np.ndarray, side: int) -> np.ndarray:
    scale = side / max(frame.shape[:2])
    if scale >= 1:
        return frame
    height, width = (max(1, round(length * scale)) for length in frame.shape[:2])
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)


def _tile(thumbs: list[np.ndarray], columns: int) -> np.ndarray:
    rows = -(-len(thumbs) // columns)
    height, width = thumbs[0].shape[:2]
    sheet = np.zeros((rows * height, columns * width, 3), dtype=np.uint8)
    for i, thumb in enumerate(thumbs):
        y, x = i // columns * height, i % columns * width
        sheet[y : y + height, x : x + width] = thumb
    return sheet


def _jpeg_within(frame: np.ndarray, quality: int, most_bytes: int) -> bytes:
    data = _jpeg(frame, quality)
    while len(data) > most_bytes and quality > LOWEST_QUALITY:
        quality -= 10
        data = _jpeg(frame, quality)
    return data


def _jpeg(frame: np.ndarray, quality: int) -> bytes:
    done, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a frame of shape {list(frame.shape)} could not be written as JPEG.")
    return data.tobytes()
