"""From a stored picture to the one that is shown: turned, mirrored, its pixels made square, shrunk where wanted."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np

_UPRIGHT = (1, 0, 0, 1)
_STRANGEST_PIXEL = 16  # beyond this a header is wrong rather than a pixel that flat

Orientation = tuple[int, int, int, int]  # signs (a, b, c, d): a stored (x, y) is shown at (a x + c y, b x + d y)


def orientation_of(frame) -> Orientation:
    """The signs of a decoded frame's display matrix."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            matrix = np.frombuffer(memoryview(data)[:36], dtype=np.int32).astype(np.int64)
            a, b, c, d = matrix[[0, 1, 3, 4]]
            if abs(a) >= abs(b):
                return (-1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1)
            return (0, -1 if b < 0 else 1, -1 if c < 0 else 1, 0)
    return _UPRIGHT


def is_mirrored(orientation: Orientation) -> bool:
    a, b, c, d = orientation
    return a * d - b * c < 0


def clockwise_degrees(orientation: Orientation) -> int:
    """0, 90, 180 or 270: how far a stored picture is turned to be shown; one that is mirrored was so before."""
    a, b, *_ = orientation
    if is_mirrored(orientation):
        a, b = -a, -b
    return {(1, 0): 0, (0, 1): 90, (-1, 0): 180, (0, -1): 270}[a, b]


def upright(picture: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Turn and mirror a stored picture [H, W, C] as it is to be shown."""
    a, b, c, d = orientation
    if not a:
        picture = picture.transpose(1, 0, 2)  # [W, H, C]
    if b < 0 or d < 0:
        picture = picture[::-1]
    if a < 0 or c < 0:
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)


def pixel_aspect_of(stream) -> Fraction:
    """Width over height of a stored pixel, as container or codec state it; 1 where they don't, or state nonsense."""
    aspect = stream.sample_aspect_ratio
    if not aspect or not Fraction(1, _STRANGEST_PIXEL) <= aspect <= _STRANGEST_PIXEL:
        return Fraction(1)
    return Fraction(aspect)


def shown_size(stored_size: tuple[int, int], pixel_aspect: Fraction, orientation: Orientation) -> tuple[int, int]:
    """Height and width of the upright picture with square pixels: one side grows, so that nothing stored is lost."""
    height, width = stored_size
    if pixel_aspect > 1:
        width = round(width * pixel_aspect)
    else:
        height = round(height / pixel_aspect)
    return (height, width) if orientation[0] else (width, height)


def shrunk_size(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """Height and width such that no side exceeds ``max_side``, in the same proportion."""
    height, width = size
    longest = max(height, width)
    if max_side is None or longest <= max_side:
        return height, width
    return max(1, round(height * max_side / longest)), max(1, round(width * max_side / longest))


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture [H, W, C] at another height and width: by area where it gets smaller, else linear."""
    height, width = size
    if (height, width) == picture.shape[:2]:
        return picture
    is_smaller = height * width < picture.shape[0] * picture.shape[1]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR)
