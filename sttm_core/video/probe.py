"""What a video file holds, found out first: container, codec, orientation, and every frame's timestamp."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from .geometry import Orientation, orientation_of, pixel_aspect_of, shown_size
from .h264 import is_idr
from .webp import is_webp, webp_frames, webp_starts

try:
    import av
except ImportError:  # frames in memory need no decoder
    av = None

# FFmpeg would also open playlists, which name other files and addresses: only containers that hold their own pictures.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,gif,apng,ogg,asf,mxf,h264,hevc,m4v,wav,mp3,aac,flac"
)
_OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
# A broadcast recording starts anywhere in the stream: what comes before its first key frame is no damage.
_STARTS_ANYWHERE = frozenset({"mpegts", "mpeg"})
_STILL_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*")  # JPEG, PNG, BMP, TIFF
_PIXEL_FORMATS_OF_BROWSERS = frozenset({"yuv420p", "yuvj420p"})
_CODECS_OF_BROWSERS = {
    ".mp4": {"h264", "vp9", "av1"},
    ".m4v": {"h264", "vp9", "av1"},
    ".mov": {"h264", "vp9", "av1"},
    ".webm": {"vp8", "vp9", "av1"},
}


class VideoError(ValueError):
    """A video cannot be used; the message is one sentence that names the file and says what to do."""


@dataclass(frozen=True, eq=False)
class StreamInfo:
    """The picture track of one file. `times` are seconds since its first frame, in display order, from its packets."""

    path: Path
    container: str
    codec: str
    pixel_format: str
    stored_size: tuple[int, int]  # height, width before `pixel_aspect` and `orientation` are applied
    pixel_aspect: Fraction
    orientation: Orientation
    colour: tuple[int, int]  # matrix and range as in ITU-T H.273
    times: np.ndarray  # [N] float64
    pts: tuple[int, ...]  # [N] the same in units of time_base; empty when a packet has none
    key_pts: tuple[int, ...]
    rate: float  # frames a second as the file states it; 25 where it states none
    last_frame_s: float
    plain: bool  # every packet is one shown frame with its own time, progressive; each key frame is a fresh start
    starts_open: bool  # the first packets may need frames that are not in the file

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def starts_anywhere(self) -> bool:
        return self.container in _STARTS_ANYWHERE

    @property
    def has_display_times(self) -> bool:
        """Whether stamps say when a frame is shown. AVI stamps frames in the order in which they are stored."""
        return bool(self.pts) and self.container != "avi"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an upright frame with square pixels."""
        return shown_size(self.stored_size, self.pixel_aspect, self.orientation)

    def duration_of(self, times: np.ndarray) -> float:
        """Seconds from the first frame to the end of the last one, for frames shown at ``times`` [N]; 0 for none."""
        return float(times[-1]) + self.last_frame_s if len(times) else 0.0


def damaged(path: Path) -> VideoError:
    return VideoError(f"{path.name} is damaged or cut off: export it again, or copy or upload it again.")


def check_file(path: str | os.PathLike) -> Path:
    """The absolute path of an existing, readable, non-empty file; VideoError otherwise."""
    path = Path(os.path.abspath(path))
    if path.is_dir():
        raise VideoError(f"{path.name} is a folder: choose one video file in it.")
    if not path.exists():
        raise VideoError(f"{path.name} was not found: check the path.")
    if not path.is_file():
        raise VideoError(f"{path.name} is not a regular file: choose a video file.")
    if not os.access(path, os.R_OK):
        raise VideoError(f"{path.name} may not be read: change its permissions.")
    if path.stat().st_size == 0:
        raise VideoError(f"{path.name} is empty (0 bytes): copy or upload it again.")
    return path


def check_av() -> None:
    """VideoError where PyAV is missing."""
    if av is None:
        raise VideoError("Video files need PyAV, which is not installed: run `pip install av`.")


def open_container(path: Path) -> av.container.InputContainer:
    check_av()
    try:
        return av.open(str(path), options=_OPEN_OPTIONS, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{path.name} {_reason(path)}") from error


def _reason(path: Path) -> str:
    """Why FFmpeg could not open a file, and what to do, from how it begins."""
    with path.open("rb") as file:
        head = file.read(16)
    if head[4:8] == b"ftyp":
        return "is cut off (the index at its end is missing): record or export it again, or upload it again."
    if head.startswith(_STILL_PICTURES):
        return "is a single picture: choose a video or an animation."
    return "is not a video that can be read: choose an MP4, MOV, WebM, MKV or AVI file."


def picture_stream(container: av.container.InputContainer, path: Path) -> av.video.stream.VideoStream:
    """The first moving-picture track, set to decode with threads and to report damage instead of concealing it."""
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        what = "holds sound only" if container.streams.audio else "holds no pictures"
        raise VideoError(f"{path.name} {what}: choose a file with a video track.")
    stream = streams[0]
    if stream.codec_context is None:
        raise VideoError(f"{path.name} uses a codec that cannot be decoded here: convert it to H.264 MP4.")
    stream.thread_type = "AUTO"
    stream.codec_context.options = {"err_detect": "explode"}
    return stream


def seconds_of(pts: list[int | None], time_base: Fraction, rate: float) -> np.ndarray:
    """Seconds since the first frame, [N] float64. Files without usable timestamps count frames at their rate."""
    if not pts:
        return np.zeros(0)
    # Sorted: frames come in display order, but AVI stamps them in the order in which they are stored.
    if all(p is not None for p in pts) and len(set(pts)) == len(pts):
        ticks = np.sort(np.asarray(pts, dtype=np.int64))
        return (ticks - ticks[0]) * float(time_base)
    return np.arange(len(pts)) / rate


@dataclass(frozen=True)
class _Packet:
    """What a packet says of its frame; the compressed data itself is let go."""

    pts: int | None
    dts: int | None
    duration: int | None
    is_key: bool
    is_fresh: bool  # a key frame after which nothing needs what came before
    is_shown: bool  # an edit list may hide frames

    @classmethod
    def of(cls, packet: av.Packet, stream: av.video.stream.VideoStream) -> _Packet:
        is_key = packet.is_keyframe
        codec = stream.codec_context
        is_fresh = is_key and (codec.codec.canonical_name != "h264" or is_idr(bytes(packet), codec.extradata))
        return cls(packet.pts, packet.dts, packet.duration, is_key, is_fresh, not packet.is_discard)


def _walk(container, stream, path: Path) -> tuple[list[_Packet], av.VideoFrame]:
    """All packets of the track, and its first frame. Only as many packets are decoded as that frame needs."""
    packets, first = [], None
    stream.thread_type = "SLICE"  # an error then comes with the packet that has it, and spoils no other
    starts_anywhere = container.format.name in _STARTS_ANYWHERE
    try:
        for packet in container.demux(stream):
            if packet.size:
                packets.append(_Packet.of(packet, stream))
            tolerant = starts_anywhere or (packets and not packets[0].is_fresh)
            if packet.is_corrupt and not tolerant:
                raise damaged(path)
            if first is None:
                try:
                    first = next(iter(packet.decode()), None)
                except av.error.FFmpegError:
                    if not tolerant:
                        raise
    except av.error.FFmpegError as error:
        raise damaged(path) from error
    if first is None:
        raise damaged(path)
    return packets, first


def _without_leading(packets: list[_Packet]) -> list[_Packet]:
    """A stream that begins at no fresh start: what is shown before its first key frame can't be decoded."""
    if not packets or packets[0].is_fresh:
        return packets
    start = next((p.pts for p in packets if p.is_key), None)
    return packets if start is None else [p for p in packets if p.pts is None or p.pts >= start]


def _is_plain(packets: list[_Packet], first: av.VideoFrame) -> bool:
    """Decoding may begin at every key frame, and the colours of a frame are not those of two fields."""
    return all(p.is_fresh for p in packets if p.is_key) and not first.interlaced_frame


def _check_whole(container, stream, path: Path) -> None:
    """MP4 and MOV list where each frame lies: an entry past the end of the file means that the file was cut off."""
    if container.format.name.startswith("mov"):
        end = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
        if end > path.stat().st_size:
            raise damaged(path)


def probe(path: Path) -> StreamInfo:
    """Read the headers, all packets (not decoded) and the first frame of a file that `check_file` has passed.

    Raises VideoError for what is no video, holds no pictures, is cut off or cannot be decoded.
    """
    check_av()
    if is_webp(path):
        return _probe_webp(path)
    with open_container(path) as container:
        stream = picture_stream(container, path)
        _check_whole(container, stream, path)
        packets, first = _walk(container, stream, path)
        shown = [p for p in _without_leading(packets) if p.is_shown]
        pts = [p.dts if p.pts is None else p.pts for p in shown]
        usable = all(p.pts is not None for p in shown) and len(set(pts)) == len(pts)
        rate = float(stream.average_rate or 25)
        last = max(shown, key=lambda p: p.pts) if usable and shown else None
        known = last is not None and last.duration
        return StreamInfo(
            path=path,
            container=container.format.name,
            codec=stream.codec.canonical_name,
            pixel_format=first.format.name,
            stored_size=(first.height, first.width),
            pixel_aspect=pixel_aspect_of(stream),
            orientation=orientation_of(first),
            colour=(int(first.colorspace), int(first.color_range)),
            times=seconds_of(pts, stream.time_base, rate),
            pts=tuple(sorted(pts)) if usable else (),
            key_pts=tuple(sorted(p.pts for p in shown if p.is_key)) if usable else (),
            rate=rate,
            last_frame_s=float(last.duration * stream.time_base) if known else 1 / rate,
            plain=usable and 0 < len(shown) == len(packets) and _is_plain(packets, first),
            starts_open=bool(packets) and not packets[0].is_fresh,
        )


def _probe_webp(path: Path) -> StreamInfo:
    try:
        *starts, end = webp_starts(path)
        if not starts:
            raise VideoError(f"{path.name} is a single picture: choose a video or an animation.")
        first = next(webp_frames(path, starts))
    except VideoError:
        raise
    except ValueError as error:
        raise damaged(path) from error
    return StreamInfo(
        path=path,
        container="webp",
        codec="webp",
        pixel_format=first.format.name,
        stored_size=(first.height, first.width),
        pixel_aspect=Fraction(1),
        orientation=(1, 0, 0, 1),
        colour=(0, 2),
        times=np.array(starts) / 1000,
        pts=tuple(starts),
        key_pts=(),
        rate=1000 * len(starts) / end,
        last_frame_s=(end - starts[-1]) / 1000,
        plain=False,
        starts_open=False,
    )


def is_browser_playable(path: str | os.PathLike) -> bool:
    """Whether current browsers play the file as it is: H.264, VP8, VP9 or AV1 in 4:2:0, in MP4, MOV or WebM.

    False also for a file that cannot be read at all.
    """
    try:
        path = check_file(path)
        with open_container(path) as container:
            stream = picture_stream(container, path)
            suffix = path.suffix.lower()
            return (
                container.format.name.startswith("matroska" if suffix == ".webm" else "mov")
                and stream.codec.canonical_name in _CODECS_OF_BROWSERS.get(suffix, ())
                and stream.codec_context.pix_fmt in _PIXEL_FORMATS_OF_BROWSERS
            )
    except VideoError:
        return False
