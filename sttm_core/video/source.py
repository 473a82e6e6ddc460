"""Where a clip's frames came from, for people who want to repeat a run: what the file says, and who decoded it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

# Numbers of ITU-T H.273 under FFmpeg's names
_MATRICES = {
    0: "rgb", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc",
    10: "bt2020c", 14: "ictcp",
}  # fmt: skip
_GREY, _RGB = ("gray", "mono"), ("rgb", "bgr", "gbr", "pal", "argb", "abgr")  # how names of pixel formats begin
_RANGES = {1: "limited", 2: "full"}


@dataclass(frozen=True)
class SourceInfo:
    """What a video file holds and how it was read.

    Attributes:
        container, codec, pixel_format: FFmpeg's names, such as ``"matroska,webm"``, ``"h264"``, ``"yuv420p"``.
        stored_size: height and width of a stored picture.
        size: height and width as shown: upright, square pixels, before any shrinking.
        rotation: degrees clockwise from stored to shown; ``mirrored``: left and right were swapped before.
        pixel_aspect: width over height of a stored pixel, ``"4:3"``.
        colour_matrix, colour_range: as the file states them, or what an unstated one was read as.
        num_frames, duration_s, fps: of the whole file; fps is an average.
        decoder: name and version.
    """

    container: str
    codec: str
    pixel_format: str
    stored_size: tuple[int, int]
    size: tuple[int, int]
    rotation: int
    mirrored: bool
    pixel_aspect: str
    colour_matrix: str
    colour_range: str
    num_frames: int
    duration_s: float
    fps: float
    decoder: str

    def as_dict(self) -> dict:
        """JSON-ready."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def colour_matrix(number: int, pixel_format: str) -> str:
    """FFmpeg's name of a colour matrix; libswscale reads YUV without one as BT.601."""
    if pixel_format.startswith(_GREY):
        return "grey"
    return "rgb" if pixel_format.startswith(_RGB) else _MATRICES.get(number, "unspecified, read as bt601")


def colour_range(number: int, pixel_format: str) -> str:
    """``"limited"`` or ``"full"``; libswscale reads YUV without a range as limited."""
    if pixel_format.startswith(("yuvj", *_GREY, *_RGB)):
        return "full"
    return _RANGES.get(number, "unspecified, read as limited")
