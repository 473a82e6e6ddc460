"""Reads real footage and writes small MP4s. Needs PyAV, which training does not: nothing here is imported by it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np


def read_footage(path: Path, height: int, width: int, seconds: float, rate: int) -> np.ndarray:
    """Decode, crop to the wanted shape and scale; a clip that is too short plays forth and back.

    Args:
        path: a video file.
        height, width: of the result; the middle of the picture is kept.
        seconds, rate: length and frames a second of the result.

    Returns:
        [T, H, W, 3] uint8.

    Raises:
        ValueError: the file is missing or holds no video.
    """
    import av

    if not path.is_file():
        raise ValueError(f"There is no video at {path}; give the folder that holds it with --sources.")
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError(f"{path.name} holds no video stream; choose another file.")
        frames, times = [], []
        for frame in container.decode(video=0):
            picture = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
            frames.append(_crop_and_scale(picture, height, width))
            times.append(frame.time)
    nearest = np.abs(np.arange(times[0], times[-1], 1 / rate)[:, None] - np.array(times)).argmin(axis=1)
    wanted = round(seconds * rate)
    there_and_back = np.concatenate([nearest, nearest[::-1][1:-1]])
    order = np.resize(there_and_back, wanted)
    return np.stack([frames[i] for i in order])


def _crop_and_scale(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The largest centred part of the wanted shape, area-averaged to [H, W, 3]."""
    from PIL import Image

    h, w = picture.shape[:2]
    scale = min(h / height, w / width)
    crop_h, crop_w = height * scale, width * scale
    box = ((w - crop_w) / 2, (h - crop_h) / 2, (w + crop_w) / 2, (h + crop_h) / 2)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS, box=box))


def write_mp4(path: Path, frames: np.ndarray, rate: int, crf: int = 23) -> None:
    """Encode H.264, yuv420p, index first, so that browsers start at once.

    Args:
        frames: [T, H, W, 3] uint8 with even sides.
        rate: frames a second.
        crf: x264's constant quality, higher is smaller.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(rate))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.options = {"crf": str(crf), "preset": "slow", "threads": "1"}
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())
