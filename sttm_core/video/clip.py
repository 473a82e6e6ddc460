"""A video as the model sees it: some of its frames, each with its own timestamp.

clip = VideoClip.open("clip.mp4", num_frames=16)      # evenly spaced in time
clip = VideoClip.open("clip.mp4", fps=1, max_frames=128)   # one a second, evenly spaced beyond 128
clip.frames    # uint8 [T, H, W, 3] RGB, upright
clip.times     # float64 [T], seconds since the first frame of the file
"""

from __future__ import annotations

import hashlib
import math
import operator
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .decode import Choose, read_frames
from .geometry import clockwise_degrees, is_mirrored
from .probe import StreamInfo, VideoError, check_file, is_browser_playable, probe
from .source import SourceInfo, colour_matrix, colour_range
from .write import write_mp4, write_preview

__all__ = [
    "VideoClip", "VideoError", "even_frames", "is_browser_playable", "step_frames", "uniform_indices", "write_mp4",
    "write_preview",
]  # fmt: skip

MAX_FRAMES = 1024
_SAME_TIME_S = 1e-3  # Matroska and WebM round timestamps to a millisecond
_ROUNDING_S = 2 * _SAME_TIME_S  # of a frame, and of the ends between which a rate is measured


@dataclass(frozen=True, eq=False, repr=False)
class VideoClip:
    """Sampled frames of one video. Frames are shared, not copied: do not write into them."""

    frames: np.ndarray  # uint8 [T, H, W, 3] RGB, upright
    times: np.ndarray  # float64 [T] seconds since the first frame of the source
    frame_indices: np.ndarray  # int64 [T] which frames of the source these are
    num_source_frames: int
    duration_s: float
    fps: float  # average of the source; information only, times come from the frames
    source_size: tuple[int, int]  # height, width, upright, before any shrinking
    name: str
    content_hash: str  # SHA-256 of the file's bytes, hexadecimal
    path: Path | None = None
    decode_s: float = field(default=0.0)  # seconds spent probing and decoding, measured
    source: SourceInfo | None = None  # None for frames in memory

    @classmethod
    def open(
        cls,
        path: str | os.PathLike,
        num_frames: int | Callable[[float], int] = 16,
        *,
        fps: float | None = None,
        max_frames: int | None = None,
        max_side: int | None = None,
        indices: Sequence[int] | None = None,
    ) -> VideoClip:
        """Decode `num_frames` frames of a file, evenly spaced in time (see `even_frames`); all of them if it has fewer.

        `num_frames` may be a function that is told the duration in seconds, such as `Preset.sampling`.

        `fps` takes one frame every 1/fps seconds instead, and at most `max_frames` (1024 unless given): where there
        would be more, that many evenly spaced ones. `indices` takes exactly these frames, whatever else is given: the
        `frame_indices` of an earlier clip give its frames again. `max_side` shrinks frames so that no side exceeds it.

        Raises ValueError for arguments out of range before the file is read, VideoError for a file that is missing,
        no video, damaged, or would take more than 2 GiB of frames.
        """
        choose = _sampler(num_frames, fps, max_frames) if indices is None else _exactly(indices)
        if max_side is not None:
            _check_count("max_side", max_side, 1, 65536)
        path = check_file(path)
        try:
            content_hash = _hash_file(path)
            start = time.perf_counter()
            info = probe(path)
            decoded = read_frames(info, choose, max_side)
            decode_s = time.perf_counter() - start
        except OSError as error:
            raise VideoError(f"{path.name} could not be read to its end: copy or upload it again.") from error
        num_source_frames = len(decoded.times)
        if indices is not None and len(decoded.indices) < len(indices):
            raise VideoError(f"{path.name} has {num_source_frames} frames: frame {max(indices)} is not one of them.")
        duration_s = info.duration_of(decoded.times)
        return cls(
            frames=decoded.frames,
            times=decoded.times[decoded.indices],
            frame_indices=decoded.indices,
            num_source_frames=num_source_frames,
            duration_s=duration_s,
            fps=num_source_frames / duration_s,
            source_size=info.size,
            name=path.name,
            content_hash=content_hash,
            path=path,
            decode_s=decode_s,
            source=_source(info, num_source_frames, duration_s, decoded.decoder),
        )

    @classmethod
    def from_frames(
        cls, frames: np.ndarray | Sequence[np.ndarray], times: Sequence[float] | None = None, name: str = "frames"
    ) -> VideoClip:
        """A clip from frames in memory, uint8 [T, H, W, 3] RGB; `times` in seconds, one second apart if not given.

        Raises ValueError for other shapes or dtypes, more than 1024 frames, or times that do not increase.
        """
        frames = _checked_frames(frames)
        num_frames = len(frames)
        times = np.arange(num_frames, dtype=np.float64) if times is None else _checked_times(times, num_frames)
        last_frame_s = float(np.median(np.diff(times))) if num_frames > 1 else 1.0
        duration_s = float(times[-1] - times[0]) + last_frame_s
        digest = hashlib.sha256(repr(frames.shape).encode())
        digest.update(np.ascontiguousarray(frames).data)
        digest.update(times.tobytes())
        return cls(
            frames=frames,
            times=times,
            frame_indices=np.arange(num_frames),
            num_source_frames=num_frames,
            duration_s=duration_s,
            fps=num_frames / duration_s,
            source_size=frames.shape[1:3],
            name=name,
            content_hash=digest.hexdigest(),
        )

    def frames_dict(self) -> dict:
        """JSON-ready: which frames these are and what they were taken from; no ``source`` for frames in memory."""
        return {
            "indices": self.frame_indices.tolist(),
            "times_s": self.times.tolist(),
            "size": list(map(int, self.size)),
            "content_hash": self.content_hash,
            "source": self.source.as_dict() if self.source else None,
        }

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames kept."""
        return self.frames.shape[1:3]

    def __repr__(self) -> str:
        height, width = self.size
        return (
            f"VideoClip({self.name!r}, {self.num_frames} of {self.num_source_frames} frames, "
            f"{width}x{height}, {self.duration_s:.2f} s)"
        )


def _source(info: StreamInfo, num_frames: int, duration_s: float, decoder: str) -> SourceInfo:
    matrix, extent = info.colour
    return SourceInfo(
        container=info.container,
        codec=info.codec,
        pixel_format=info.pixel_format,
        stored_size=info.stored_size,
        size=info.size,
        rotation=clockwise_degrees(info.orientation),
        mirrored=is_mirrored(info.orientation),
        pixel_aspect=f"{info.pixel_aspect.numerator}:{info.pixel_aspect.denominator}",
        colour_matrix=colour_matrix(matrix, info.pixel_format),
        colour_range=colour_range(extent, info.pixel_format),
        num_frames=num_frames,
        duration_s=duration_s,
        fps=num_frames / duration_s,
        decoder=decoder,
    )


def uniform_indices(num_source_frames: int, num_frames: int) -> np.ndarray:
    """`num_frames` evenly spaced indices from the first frame to the last, [T] int64; all if there are no more."""
    if num_source_frames <= num_frames:
        return np.arange(num_source_frames)
    return np.rint(np.linspace(0, num_source_frames - 1, num_frames)).astype(np.int64)


def even_frames(times: np.ndarray, num_frames: int) -> np.ndarray:
    """The frames on screen at `num_frames` evenly spaced moments from the first frame to the last, [T] int64.

    `times` are seconds [N]. All frames if there are no more than `num_frames`. A frame on screen at several of the
    moments is taken once: there are then fewer. At a constant rate these are the `uniform_indices`.
    """
    if len(times) <= num_frames or _is_constant_rate(times):
        return uniform_indices(len(times), num_frames)
    return _on_screen(times, np.linspace(0, times[-1], num_frames))


def _is_constant_rate(times: np.ndarray) -> bool:
    """Whether every frame is shown when a constant rate would show it, but for the rounding of clocks."""
    step = times[-1] / (len(times) - 1)
    return np.abs(times - step * np.arange(len(times))).max() <= _ROUNDING_S


def _on_screen(times: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """The frame that is on screen at each moment; one shown for longer is taken once. All in seconds, ascending."""
    return np.unique(np.searchsorted(times, moments + _SAME_TIME_S, side="right") - 1)


def step_frames(num_frames: int, steps: int) -> np.ndarray:
    """``[steps]`` int64: which frame stands for each step in time, where a model joins some frames to one (Qwen-VL).

    It is the first of those joined; the last step may have fewer.

    Raises:
        ValueError: if so many frames can't make so many steps.
    """
    indices = np.arange(0, num_frames, max(1, -(-num_frames // steps)))
    if len(indices) != steps:
        raise ValueError(f"{num_frames} frames do not make {steps} steps in time; pass those that were encoded.")
    return indices


def _indices_at_rate(times: np.ndarray, fps: float) -> np.ndarray:
    """The frame that is on screen at 0, 1/fps, 2/fps ... seconds; one shown for longer is taken once."""
    num_ticks = math.floor((times[-1] + _SAME_TIME_S) * fps) + 1 if len(times) else 0
    if num_ticks > len(times):
        # More ticks than frames: ask of each frame whether a tick falls on it, however high fps is.
        first_tick = np.ceil((times - _SAME_TIME_S) * fps)
        next_tick = np.append(first_tick[1:], num_ticks)
        return np.flatnonzero(first_tick < next_tick)
    return _on_screen(times, np.arange(num_ticks) / fps)


def _sampler(num_frames: int | Callable[[float], int], fps: float | None, max_frames: int | None) -> Choose:
    """The rule that picks frames by the times of all of them. Raises ValueError for arguments out of range."""
    if not callable(num_frames):
        _check_count("num_frames", num_frames, 1, MAX_FRAMES)
    if max_frames is not None:
        _check_count("max_frames", max_frames, 1, MAX_FRAMES)
    limit = MAX_FRAMES if max_frames is None else max_frames
    if fps is None:
        return lambda times, duration_s: even_frames(times, min(_count(num_frames, duration_s), limit))
    if not (isinstance(fps, (int, float)) and math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps is {fps!r}: give a number of frames a second above 0.")

    def choose(times: np.ndarray, duration_s: float) -> np.ndarray:
        indices = _indices_at_rate(times, fps)
        return indices if len(indices) <= limit else even_frames(times, limit)

    return choose


def _exactly(indices: Sequence[int]) -> Choose:
    """Those frames that there are. Raises ValueError for numbers that do not ascend from 0."""
    wanted = np.asarray(indices)
    if wanted.ndim != 1 or wanted.dtype.kind not in "iu" or not 0 < len(wanted) <= MAX_FRAMES:
        raise ValueError(f"indices is {indices!r}: give 1 to {MAX_FRAMES} frame numbers.")
    if wanted[0] < 0 or (np.diff(wanted) <= 0).any():
        raise ValueError("indices do not ascend from 0: give each frame's number once, in order.")
    wanted = wanted.astype(np.int64)
    return lambda times, duration_s: wanted[wanted < max(1, len(times))]


def _count(num_frames: int | Callable[[float], int], duration_s: float) -> int:
    return num_frames(duration_s) if callable(num_frames) else num_frames


def _check_count(name: str, value: int, low: int, high: int) -> None:
    try:
        is_in_range = not isinstance(value, bool) and low <= operator.index(value) <= high
    except TypeError:
        is_in_range = False
    if not is_in_range:
        raise ValueError(f"{name} is {value!r}: give a whole number from {low} to {high}.")


def _checked_frames(frames: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    try:
        frames = np.asarray(frames)
    except ValueError as error:
        raise ValueError("The frames differ in size: give frames of one height and width.") from error
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"The frames are {frames.dtype} {list(frames.shape)}: give uint8 [frames, height, width, 3].")
    _check_count("The number of frames", len(frames), 1, MAX_FRAMES)
    return frames


def _checked_times(times: Sequence[float], num_frames: int) -> np.ndarray:
    times = np.array(times, dtype=np.float64)
    if times.shape != (num_frames,):
        raise ValueError(f"times has shape {list(times.shape)} for {num_frames} frames: give one time a frame.")
    if not np.isfinite(times).all() or times[0] < 0 or (np.diff(times) <= 0).any():
        raise ValueError("times must start at 0 or later and increase: give each frame a later second than the last.")
    return times


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
