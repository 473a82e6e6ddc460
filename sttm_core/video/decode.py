"""The wanted frames of a probed file: decord for H.264 in MP4 and MOV, PyAV for everything else.

decord 0.6 returns other frames than asked for in AVI and MPEG files with B-frames, and repeats or smears frames of
damaged files without an error. It is therefore used only where it was found exact, its timestamps are compared with
the file's, and the stretches it decodes are checked for damage.

Damage is what the decoder can notice. VP9 carries no checksums and almost any bytes decode to some picture: a few
changed bytes in such a file can go unnoticed, as they do in a player.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from .geometry import is_mirrored, resized, shrunk_size, upright
from .probe import StreamInfo, VideoError, av, damaged, open_container, picture_stream, seconds_of
from .webp import webp_decoder, webp_frames

try:
    import decord
    from decord._ffi.base import DECORDError
except (ImportError, OSError):  # no wheel for this machine: PyAV reads everything
    decord = None
else:
    decord.logging.set_level(decord.logging.QUIET)

MAX_FRAME_BYTES = 2 * 1024**3
_TIMESTAMP_TOLERANCE_S = 2e-3  # decord reports float32 seconds
_DECORD_CHUNK = 8  # frames held at full size while they are shrunk

# times of all frames [N] and the duration, in seconds -> indices of the wanted frames [T], ascending
Choose = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True, eq=False)
class DecodedFrames:
    """frames uint8 [T, H, W, 3] RGB upright, their indices [T], and the times [N] of all frames of the file."""

    frames: np.ndarray
    indices: np.ndarray
    times: np.ndarray
    decoder: str  # name and version


class _InexactError(Exception):
    """decord does not agree with the file; the frames must come from PyAV."""


def read_frames(info: StreamInfo, choose: Choose, max_side: int | None = None) -> DecodedFrames:
    """Decode the frames that `choose` wants, shrunk so that no side exceeds `max_side`.

    Raises VideoError where the file is damaged, or the frames would take more than MAX_FRAME_BYTES.
    """
    indices = choose(info.times, info.duration_of(info.times))
    check_memory(info, len(indices), max_side)
    if _suits_decord(info):
        try:
            frames = _read_with_decord(info, indices, max_side)
        except _InexactError:
            pass  # PyAV reads what decord can't read exactly
        else:
            _check_stretches(info, indices)
            return DecodedFrames(frames, indices, info.times, f"decord {decord.__version__}")
    return _read_with_pyav(info, choose, max_side)


def check_memory(info: StreamInfo, num_frames: int, max_side: int | None) -> None:
    height, width = shrunk_size(info.size, max_side)
    needed = num_frames * height * width * 3
    if needed > MAX_FRAME_BYTES:
        raise VideoError(
            f"{info.name} is too large: {num_frames} frames of {width}x{height} take {needed / 1024**3:.1f} GiB "
            f"and {MAX_FRAME_BYTES / 1024**3:.0f} GiB are allowed; take fewer frames, or set max_side to shrink them."
        )


def _decoder(info: StreamInfo) -> str:
    if info.container == "webp":
        return webp_decoder()
    return f"PyAV {av.__version__} (libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))})"


def _fitted(picture: np.ndarray, info: StreamInfo, max_side: int | None) -> np.ndarray:
    """An upright picture [H, W, C] with square pixels, shrunk until no side exceeds max_side."""
    return resized(picture, shrunk_size(info.size, max_side))


# decord


def _suits_decord(info: StreamInfo) -> bool:
    is_exact = info.codec == "h264" and info.container.startswith("mov") and info.plain
    return is_exact and not is_mirrored(info.orientation) and decord is not None


def _read_with_decord(info: StreamInfo, indices: np.ndarray, max_side: int | None) -> np.ndarray:
    """The frames [T, H, W, 3]; _InexactError if decord fails or numbers frames otherwise than the file."""
    try:
        reader = decord.VideoReader(str(info.path), ctx=decord.cpu(0))
        _check_decord_times(reader, info)
        chunks = [indices[i : i + _DECORD_CHUNK] for i in range(0, len(indices), _DECORD_CHUNK)]
        batches = (reader.get_batch(chunk.tolist()) for chunk in chunks)
        frames = [_fitted(picture, info, max_side) for batch in batches for picture in _as_numpy(batch)]
    except (DECORDError, RuntimeError, IndexError) as error:
        raise _InexactError from error
    return np.stack(frames)


def _as_numpy(batch) -> np.ndarray:
    """decord's array, or a tensor where another library has set decord's bridge."""
    return batch.asnumpy() if hasattr(batch, "asnumpy") else np.asarray(batch)


def _check_decord_times(reader, info: StreamInfo) -> None:
    if len(reader) != len(info.times):
        raise _InexactError
    starts = reader.get_frame_timestamp(list(range(len(reader))))[:, 0]
    if np.abs((starts - starts[0]) - info.times).max() > _TIMESTAMP_TOLERANCE_S:
        raise _InexactError


def _check_stretches(info: StreamInfo, indices: np.ndarray) -> None:
    """Decode, without making pictures, from the key frame before each wanted frame: VideoError if anything is damaged.

    libavcodec, as decord uses it, conceals damage; here it is told to report it.
    """
    with open_container(info.path) as container:
        stream = picture_stream(container, info.path)
        stream.codec_context.options = {"err_detect": "explode", "skip_loop_filter": "all", "skip_idct": "all"}
        try:
            for key_pts, last_pts in _stretches(info, indices).items():
                container.seek(key_pts, stream=stream, backward=True)
                for frame in container.decode(stream):
                    if frame.is_corrupt:
                        raise damaged(info.path)
                    if frame.pts is not None and frame.pts >= last_pts:
                        break
        except av.error.FFmpegError as error:
            raise damaged(info.path) from error


def _stretches(info: StreamInfo, indices: np.ndarray) -> dict[int, int]:
    """pts of a key frame -> pts of the last wanted frame that needs it."""
    keys = np.asarray(info.key_pts or info.pts[:1])
    wanted = np.asarray(info.pts)[indices]
    starts = keys[np.maximum(np.searchsorted(keys, wanted, side="right") - 1, 0)]
    return dict(zip(starts.tolist(), wanted.tolist(), strict=True))  # ascending: the last one stays


# PyAV


def _read_with_pyav(info: StreamInfo, choose: Choose, max_side: int | None) -> DecodedFrames:
    """Decode from start to end and keep the wanted frames.

    Packets and frames are not always one to one, so the choice made from packets may prove wrong: then decode once more
    with the choice made from the frames that came out.
    """
    times = info.times
    for _ in range(2):
        indices = choose(times, info.duration_of(times))
        check_memory(info, len(indices), max_side)
        frames, times = _keep(info, set(indices.tolist()), max_side)
        if len(times) and np.array_equal(choose(times, info.duration_of(times)), indices):
            return DecodedFrames(np.stack(frames), indices, times, _decoder(info))
    raise damaged(info.path)


def _keep(info: StreamInfo, wanted: set[int], max_side: int | None) -> tuple[list[np.ndarray], np.ndarray]:
    frames, pts, time_base = [], [], None
    with closing(decoded(info)) as stream_of_frames:
        for index, frame in enumerate(stream_of_frames):
            pts.append(frame.pts if info.has_display_times or not info.starts_open else None)
            time_base = frame.time_base
            if index in wanted:
                frames.append(picture_of(frame, info, max_side))
    return frames, seconds_of(pts, time_base, info.rate)


def picture_of(frame: av.VideoFrame, info: StreamInfo, max_side: int | None) -> np.ndarray:
    """A frame as uint8 RGB [H, W, 3], upright, of the first frame's size should the stream change it."""
    height, width = info.stored_size
    picture = frame.to_ndarray(format="rgb24", width=width, height=height)  # [H, W, 3]
    return _fitted(upright(picture, info.orientation), info, max_side)


def decoded(info: StreamInfo) -> Iterator[av.VideoFrame]:
    """All frames in display order; VideoError at the first sign of damage, so that no frame seen is a wrong one."""
    try:
        if info.container == "webp":
            yield from webp_frames(info.path, [round(1000 * seconds) for seconds in info.times])
        else:
            yield from _decoded_with_pyav(info)
    except VideoError:
        raise
    except (av.error.FFmpegError, ValueError) as error:
        raise damaged(info.path) from error


def _decoded_with_pyav(info: StreamInfo) -> Iterator[av.VideoFrame]:
    with open_container(info.path) as container:
        stream = picture_stream(container, info.path)
        start = _Start(info)
        if info.starts_open:
            stream.thread_type = "SLICE"  # see `probe`: errors are to be expected
        for packet in container.demux(stream):
            is_forgiven = start.forgives(packet)
            if packet.is_corrupt and not is_forgiven:
                raise damaged(info.path)
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                if not is_forgiven:
                    raise
                continue
            for frame in frames:
                if start.is_behind(frame):
                    if frame.is_corrupt:
                        raise damaged(info.path)
                    yield frame


class _Start:
    """Where the frames of a file begin that can be decoded: at once, or after what needs frames that are not there.

    A cut through an open GOP leaves pictures that are stored after the first key frame and shown before it, and a
    recording of a broadcast begins anywhere. Neither is damage.
    """

    def __init__(self, info: StreamInfo) -> None:
        self._open = info.starts_open
        self._key_pts: int | None = None
        self._has_begun = not (info.starts_anywhere or (info.starts_open and not info.has_display_times))

    def forgives(self, packet: av.Packet) -> bool:
        """Whether this packet may fail."""
        is_first_key = packet.is_keyframe and (self._key_pts is None or not self._has_begun)
        if is_first_key:
            self._key_pts = packet.pts
        if not self._has_begun:
            return True
        return self._open and (self._key_pts is None or self._is_leading(packet.pts))

    def is_behind(self, frame: av.VideoFrame) -> bool:
        """Whether this frame, in display order, is one of those that can be decoded."""
        self._has_begun = self._has_begun or bool(frame.key_frame)
        return self._has_begun and not (self._open and self._is_leading(frame.pts))

    def _is_leading(self, pts: int | None) -> bool:
        return pts is not None and self._key_pts is not None and pts < self._key_pts
