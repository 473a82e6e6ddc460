"""MP4 files that every browser plays: H.264, 4:2:0, index first. For overlays, tests and previews of uploads."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np

from .decode import decoded, picture_of
from .probe import VideoError, av, check_av, check_file, probe

_CLOCK = 90_000  # ticks a second, the usual clock of MP4
_ENCODER_OPTIONS = {"preset": "veryfast", "crf": "20"}


class _Mp4Encoder:
    """Takes frames uint8 [H, W, 3] with the second at which each is shown."""

    def __init__(self, container: av.container.OutputContainer, rate: Fraction):
        self._container = container
        self._rate = rate
        self._stream = None
        self._last_tick = -1

    def add(self, frame: np.ndarray, seconds: float) -> None:
        if self._stream is None:
            self._stream = self._start(frame.shape)
        picture = av.VideoFrame.from_ndarray(_even(frame), format="rgb24")
        self._last_tick = max(round(seconds * _CLOCK), self._last_tick + 1)
        picture.pts, picture.time_base = self._last_tick, Fraction(1, _CLOCK)
        self._container.mux(self._stream.encode(picture))

    def _start(self, shape: tuple[int, ...]) -> av.video.stream.VideoStream:
        stream = self._container.add_stream("libx264", rate=self._rate)
        stream.height, stream.width = (side + side % 2 for side in shape[:2])
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        stream.options = dict(_ENCODER_OPTIONS)
        return stream

    def finish(self) -> None:
        if self._stream is None:
            raise ValueError("There are no frames to write: give at least one.")
        self._container.mux(self._stream.encode())


def _even(frame: np.ndarray) -> np.ndarray:
    """4:2:0 wants even sides: repeat the last row or column where one is odd."""
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(frame)


@contextmanager
def _encoder(path: Path, rate: Fraction) -> Iterator[_Mp4Encoder]:
    """An encoder into `path`; the file appears when it is complete, and not at all after an exception."""
    check_av()
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")  # others may write the same file now
    try:
        with av.open(str(unfinished), "w", format="mp4", options={"movflags": "faststart"}) as container:
            encoder = _Mp4Encoder(container, rate)
            yield encoder
            encoder.finish()
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    shape = None
    for index, frame in enumerate(frames):
        frame = np.asarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            raise ValueError(f"Frame {index} is {frame.dtype} {list(frame.shape)}: give uint8 [height, width, 3].")
        shape = shape or frame.shape
        if frame.shape != shape:
            raise ValueError(f"Frame {index} is {list(frame.shape)} and the first {list(shape)}: give one size.")
        yield frame


def write_mp4(frames: Iterable[np.ndarray], path: str | os.PathLike, fps: float) -> Path:
    """Write frames, an iterable of uint8 RGB [H, W, 3], as H.264 MP4 at `fps` frames a second; returns the path.

    Odd sides grow by one. Raises ValueError for no frames, other shapes or dtypes, or an fps outside (0, 1000].
    """
    if not (math.isfinite(fps) and 0 < fps <= 1000):
        raise ValueError(f"fps is {fps}: give a number above 0 and up to 1000.")
    path = Path(path)
    with _encoder(path, Fraction(fps).limit_denominator(1001)) as encoder:
        for index, frame in enumerate(_checked(frames)):
            encoder.add(frame, index / fps)
    return path


def write_preview(path: str | os.PathLike, out: str | os.PathLike, max_side: int = 960) -> Path:
    """Write a copy that browsers play: upright H.264 4:2:0 MP4 without sound, its sides at most `max_side`.

    Frames keep their own timestamps. Returns the path written. Raises VideoError as VideoClip.open does.
    """
    if max_side < 2:
        raise ValueError(f"max_side is {max_side}: give 2 or more.")
    info = probe(check_file(path))
    if Path(out).resolve() == info.path.resolve():
        raise VideoError(f"{info.name} cannot be its own preview: choose another name for the copy.")
    rate = Fraction(info.rate).limit_denominator(1001)
    first_pts = None
    with _encoder(Path(out), rate) as encoder, closing(decoded(info)) as frames:
        for index, frame in enumerate(frames):
            first_pts = frame.pts if first_pts is None else first_pts
            # AVI has one rate, and its stamps come out of order.
            known = frame.pts is not None and info.container != "avi"
            seconds = float((frame.pts - first_pts) * frame.time_base) if known else index / float(rate)
            encoder.add(picture_of(frame, info, max_side - max_side % 2), seconds)
    return Path(out)
