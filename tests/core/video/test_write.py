"""Files written for browsers: what comes back from them, and which uploads need a copy."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sttm_core.video import VideoClip, VideoError, is_browser_playable, write_mp4, write_preview

HEIGHT, WIDTH = 96, 128


def bar(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A white bar whose left edge tells the number, on black, with a red top left corner."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[height // 2 :, 4 * number : 4 * number + 8] = 255
    frame[:16, :16] = (220, 0, 0)
    return frame


def number_of(frame: np.ndarray) -> int:
    columns = np.flatnonzero(frame[-10].mean(axis=-1) > 127)
    return round(columns[0] * WIDTH / frame.shape[1] / 4)


def encode(path: Path, codec: str, pixel_format="yuv420p", ticks=None, rotation=None, num_frames=20) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        stream.options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        if rotation:
            stream.set_display_rotation(rotation)
        if ticks:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(bar(number), format="rgb24")
            if ticks:
                frame.pts, frame.time_base = ticks[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("height, width, fps", [(96, 128, 25), (97, 131, 12.5), (95, 128, 30000 / 1001), (64, 128, 1)])
def test_what_is_written_comes_back(tmp_path, height, width, fps):
    path = write_mp4((bar(n, height, width) for n in range(20)), tmp_path / "out.mp4", fps)
    clip = VideoClip.open(path, 64)
    assert clip.size == (height + height % 2, width + width % 2)
    assert [number_of(f[:height, :width]) for f in clip.frames] == list(range(20))
    assert clip.times == pytest.approx(np.arange(20) / fps, abs=1e-3)
    assert np.abs(clip.frames[0][:16, :16].mean(axis=(0, 1)) - (220, 0, 0)).max() < 25, "colours changed"
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat") and is_browser_playable(path)


@pytest.mark.parametrize(
    "frames, fps, message",
    [
        ([], 25, "no frames"),
        ([bar(0)], 0, "fps is 0"),
        ([bar(0)], float("inf"), "fps is inf"),
        ([bar(0).astype(float)], 25, "Frame 0 is float64"),
        ([bar(0), bar(0, 64)], 25, "Frame 1 .* one size"),
        ([bar(0)[..., 0]], 25, "Frame 0"),
    ],
)
def test_bad_frames_leave_no_file(tmp_path, frames, fps, message):
    with pytest.raises(ValueError, match=message):
        write_mp4(frames, tmp_path / "out.mp4", fps)
    assert list(tmp_path.iterdir()) == []


PLAYABLE = [
    ("a.mp4", "libx264", "yuv420p", True),
    ("a.mov", "libx264", "yuv420p", True),
    ("a.webm", "libvpx-vp9", "yuv420p", True),
    ("b.webm", "libvpx", "yuv420p", True),
    ("b.mp4", "libsvtav1", "yuv420p", True),
    ("c.mp4", "libx264", "yuv444p", False),
    ("d.mp4", "libx265", "yuv420p", False),
    ("e.mp4", "mpeg4", "yuv420p", False),
    ("f.avi", "libx264", "yuv420p", False),
    ("g.mkv", "libx264", "yuv420p", False),
    ("h.mpg", "mpeg2video", "yuv420p", False),
]


@pytest.fixture
def ordinary_priority():
    """SVT-AV1, run by root, leaves this thread with real-time priority; later browsers would starve all else."""
    yield
    if hasattr(os, "sched_setscheduler"):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.mark.usefixtures("ordinary_priority")
@pytest.mark.parametrize("name, codec, pixel_format, expected", PLAYABLE)
def test_which_files_browsers_play(tmp_path, name, codec, pixel_format, expected):
    path = encode(tmp_path / name, codec, pixel_format)
    assert is_browser_playable(path) is expected
    if not expected:
        preview = write_preview(path, tmp_path / "preview.mp4")
        assert is_browser_playable(preview)
        clip = VideoClip.open(preview, 64)
        assert [number_of(f) for f in clip.frames] == list(range(20))
        assert clip.times == pytest.approx(np.arange(20) / 25, abs=1e-3)


def test_a_file_named_otherwise_than_it_is_gets_a_preview(tmp_path):
    path = encode(tmp_path / "a.avi", "libx264").rename(tmp_path / "a.mp4")
    assert not is_browser_playable(path)


def test_a_preview_is_upright_small_and_on_time(tmp_path):
    ticks = [0, 30, 200, 210, 600, 640, 900, 1500]
    path = encode(tmp_path / "phone.mov", "libx265", rotation=90, ticks=ticks, num_frames=8)
    preview = VideoClip.open(write_preview(path, tmp_path / "preview.mp4", max_side=75), 64)
    source = VideoClip.open(path, 64)
    assert source.size == (WIDTH, HEIGHT) and preview.size == (74, 56)
    assert preview.times == pytest.approx(np.array(ticks) / 1000, abs=1e-3)
    assert preview.times == pytest.approx(source.times, abs=1e-3)
    red = preview.frames[0][-6:-3, 3:6].mean(axis=(0, 1))  # a quarter turn to the left moves the corner down
    assert red[0] > 150 and red[1] < 80
    with av.open(str(tmp_path / "preview.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0


def test_a_video_is_not_overwritten_by_its_own_preview(tmp_path):
    path = encode(tmp_path / "a.avi", "mpeg4")
    before = path.read_bytes()
    with pytest.raises(VideoError, match=r"^a\.avi cannot be its own preview"):
        write_preview(path, path)
    with pytest.raises(ValueError, match="max_side is 1"):
        write_preview(path, tmp_path / "b.mp4", max_side=1)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
