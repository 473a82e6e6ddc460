"""Animated WebP, which FFmpeg does not decode: its timing from the file's chunks, its pictures through Pillow."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

try:
    import av
    import PIL
    from PIL import Image, features
except ImportError:  # without either there are no files to read
    Image = None

_CLOCK = Fraction(1, 1000)
_FRAME = b"ANMF"
_TOO_SHORT_MS, _INSTEAD_MS = 10, 100  # browsers show frames of at most 10 ms for 100 ms


def is_webp(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


def webp_starts(path: Path) -> list[int]:
    """Milliseconds at which each frame of an animation starts, and at which the last one ends; ``[0]`` for a still.

    Raises:
        ValueError: if the file ends before its last chunk does.
    """
    starts = [0]
    for name, payload in _chunks(path):
        if name == _FRAME:
            duration = int.from_bytes(payload[12:15], "little")
            starts.append(starts[-1] + (duration if duration > _TOO_SHORT_MS else _INSTEAD_MS))
    return starts


def _chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Name and first 16 bytes of each chunk."""
    size = path.stat().st_size
    with path.open("rb") as file:
        end = 8 + struct.unpack("<I", file.read(12)[4:8])[0]
        if end > size:
            raise ValueError("cut off")
        while file.tell() + 8 <= end:
            name, length = struct.unpack("<4sI", file.read(8))
            after = file.tell() + length + length % 2
            yield name, file.read(min(length, 16))
            if file.seek(after) > size:
                raise ValueError("cut off")


def webp_frames(path: Path, starts: list[int]) -> Iterator[av.VideoFrame]:
    """All frames, each composed with those below it, as RGB with a clock of milliseconds.

    Raises:
        ValueError: if one can't be decoded, or there are fewer than ``starts`` says.
    """
    try:
        with Image.open(path, formats=["WEBP"]) as image:
            for number, start in enumerate(starts):
                image.seek(number)
                frame = av.VideoFrame.from_ndarray(np.asarray(image.convert("RGB")), format="rgb24")
                frame.pts, frame.time_base = start, _CLOCK
                yield frame
    except (OSError, EOFError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("damaged") from error


def webp_decoder() -> str:
    return f"Pillow {PIL.__version__} (libwebp {features.version('webp')})"
