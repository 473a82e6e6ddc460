"""Pixels that are not square, and what a clip says of its source: sizes, turns, colours, decoder."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import sttm_core.video.decode as video_decode
from sttm_core.video import VideoClip, write_preview
from tests.core.video.test_stamps import HEIGHT, WIDTH, make, stamp_of, stamped, stamps_of


def with_pixels(path: Path, aspect: Fraction, degrees: int = 0, codec: str = "libx264") -> Path:
    def setup(stream) -> None:
        stream.codec_context.sample_aspect_ratio = aspect
        if degrees:
            stream.set_display_rotation(degrees)

    return make(path, codec, num_frames=6, setup=setup)


@pytest.mark.parametrize("by", ["decord", "pyav"])
@pytest.mark.parametrize("degrees", [0, 90])
@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        (Fraction(4, 3), (HEIGHT, 213)),
        (Fraction(16, 11), (HEIGHT, 233)),
        (Fraction(1, 2), (2 * HEIGHT, WIDTH)),
        (Fraction(1), (HEIGHT, WIDTH)),
        (Fraction(1, 255), (HEIGHT, WIDTH)),  # no camera has such pixels
    ],
)
def test_frames_keep_the_shape_that_is_shown(tmp_path, monkeypatch, by, degrees, aspect, size):
    if by == "pyav":
        monkeypatch.setattr(video_decode, "decord", None)
    path = with_pixels(tmp_path / "a.mp4", aspect, degrees)
    clip = VideoClip.open(path)
    upright = size if not degrees else size[::-1]
    assert clip.size == clip.source_size == upright == clip.source.size
    assert clip.source.stored_size == (HEIGHT, WIDTH) and clip.source.decoder.lower().startswith(by)
    as_stored = [np.rot90(frame, -degrees // 90) for frame in clip.frames]
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, (HEIGHT, WIDTH), strict=True))  # nearest
    for number, frame in enumerate(as_stored):
        assert stamp_of(frame) == number
        assert np.abs(frame.astype(int) - stamped(number)[rows][:, columns]).mean() < 8


@pytest.mark.parametrize(("aspect", "size"), [(Fraction(4, 3), (60, 107)), (Fraction(1, 2), (107, 71))])
def test_max_side_bounds_the_shape_that_is_shown(tmp_path, aspect, size):
    clip = VideoClip.open(with_pixels(tmp_path / "a.mkv", aspect), max_side=107)
    assert clip.size == size and stamps_of(clip) == list(range(6))


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.mp4", "libx264"), ("a.avi", "mpeg4")])
@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(1, 2)])
def test_a_preview_keeps_the_shape_that_is_shown(tmp_path, name, codec, aspect):
    preview = write_preview(with_pixels(tmp_path / name, aspect, codec=codec), tmp_path / "preview.mp4")
    with av.open(str(preview)) as container:
        stream = container.streams.video[0]
        assert (stream.sample_aspect_ratio or 1) == 1
        assert stream.width / stream.height == pytest.approx(WIDTH * aspect / HEIGHT, rel=0.02)
    assert stamps_of(VideoClip.open(preview)) == list(range(6))


# What a clip says of its source


COLOURS = {  # codec options -> what is said of matrix and range
    "unstated": ({}, "unspecified, read as bt601", "unspecified, read as limited"),
    "hd": ({"x264-params": "colormatrix=bt709:range=tv"}, "bt709", "limited"),
    "sd": ({"x264-params": "colormatrix=smpte170m:fullrange=on"}, "smpte170m", "full"),
}


@pytest.mark.parametrize("case", COLOURS)
def test_colours_are_said_and_read_as_said(tmp_path, case):
    options, matrix, extent = COLOURS[case]
    path = make(tmp_path / "a.mp4", num_frames=2, options=options)
    clip = VideoClip.open(path)
    assert (clip.source.colour_matrix, clip.source.colour_range) == (matrix, extent)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0)).to_ndarray()  # Y, then U and V at half size: [H * 3 / 2, W]
    assert np.abs(clip.frames[0].astype(int) - _rgb(frame, matrix, extent)).mean() < 2


def _rgb(planes: np.ndarray, matrix: str, extent: str) -> np.ndarray:
    """ITU-R BT.601 and BT.709 by their own formulas, chroma repeated."""
    y = planes[:HEIGHT].astype(float)
    u, v = planes[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2).astype(float).repeat(2, axis=1).repeat(2, axis=2) - 128
    if "full" not in extent:
        y, u, v = (y - 16) * 255 / 219, u * 255 / 224, v * 255 / 224
    kr, kb = (0.2126, 0.0722) if matrix == "bt709" else (0.299, 0.114)
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.stack([red, green, blue], axis=-1).clip(0, 255)


MIRROR = [-(1 << 16), 0, 0, 0, 1 << 16, 0, WIDTH << 16, 0, 1 << 30]
TURNS = {  # how a track is set up -> rotation and mirroring that are said
    "none": (None, 0, False),
    "left": (lambda stream: stream.set_display_rotation(90), 270, False),
    "half": (lambda stream: stream.set_display_rotation(180), 180, False),
    "right": (lambda stream: stream.set_display_rotation(-90), 90, False),
    "mirror": (lambda stream: stream.set_display_matrix(MIRROR), 0, True),
}


@pytest.mark.parametrize("case", TURNS)
def test_what_is_said_of_a_turn_makes_the_frame_from_the_stored_one(tmp_path, case):
    setup, degrees, mirrored = TURNS[case]
    clip = VideoClip.open(make(tmp_path / "a.mp4", num_frames=1, setup=setup))
    assert (clip.source.rotation, clip.source.mirrored) == (degrees, mirrored)
    stored = stamped(0)[:, ::-1] if mirrored else stamped(0)
    assert np.abs(clip.frames[0].astype(int) - np.rot90(stored, -degrees // 90)).mean() < 6


def test_a_clip_says_what_was_seen_in_json(tmp_path):
    clip = VideoClip.open(with_pixels(tmp_path / "a.mkv", Fraction(4, 3)), 3, max_side=100)
    said = json.loads(json.dumps(clip.frames_dict(), allow_nan=False))
    assert said["indices"] == [0, 2, 5] and said["times_s"] == pytest.approx([0, 0.08, 0.2], abs=1e-3)
    assert said["size"] == [56, 100] and said["content_hash"] == clip.content_hash
    expected = {
        "container": "matroska,webm", "codec": "h264", "pixel_format": "yuv420p", "stored_size": [HEIGHT, WIDTH],
        "size": [HEIGHT, 213], "rotation": 0, "mirrored": False, "pixel_aspect": "4:3", "num_frames": 6,
    }  # fmt: skip
    assert {name: said["source"][name] for name in expected} == expected
    assert said["source"]["decoder"].startswith(f"PyAV {av.__version__} (libavcodec ")
    assert VideoClip.from_frames(clip.frames).frames_dict()["source"] is None
