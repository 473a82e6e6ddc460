"""Reads real footage for backgrounds. Needs a video decoder, so training imports nothing from here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from sttm_core.video import VideoClip


def read_footage(path: Path, height: int, width: int, seconds: float, rate: int) -> np.ndarray:
    """Decode, crop to the wanted shape and scale; a clip that is too short plays forth and back.

    Args:
        path: a video file.
        height, width: of the result; the middle of the picture is kept.
        seconds, rate: length and frames a second of the result.

    Returns:
        [T, H, W, 3] uint8.

    Raises:
        ValueError: the file is missing or cannot be decoded.
    """
    if not path.is_file():
        raise ValueError(f"There is no video at {path}; give the folder that holds it with --sources.")
    clip = VideoClip.open(path, fps=rate)
    wanted = round(seconds * rate)
    forth = np.arange(clip.num_frames)
    order = np.resize(np.concatenate([forth, forth[::-1][1:-1]]), wanted)
    scaled = {i: _crop_and_scale(clip.frames[i], height, width) for i in sorted(set(order.tolist()))}
    return np.stack([scaled[i] for i in order.tolist()])


def _crop_and_scale(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The largest centred part of the wanted shape, scaled to [H, W, 3]."""
    h, w = picture.shape[:2]
    scale = min(h / height, w / width)
    crop_h, crop_w = height * scale, width * scale
    box = ((w - crop_w) / 2, (h - crop_h) / 2, (w + crop_w) / 2, (h + crop_h) / 2)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS, box=box))
