"""Animated WebP and PNG are videos; single pictures are called that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sttm_core.video import VideoClip, VideoError, write_preview
from tests.core.video.test_stamps import stamped, stamps_of

COUNT = 12
MILLISECONDS = [100, 300] * (COUNT // 2)
STARTS_S = np.cumsum([0, *MILLISECONDS[:-1]]) / 1000
KINDS = {"lossy.webp": {"quality": 90}, "lossless.webp": {"lossless": True}, "a.png": {}, "a.gif": {}}


def animate(path: Path, count: int = COUNT, milliseconds=MILLISECONDS, **options) -> Path:
    first, *rest = (Image.fromarray(stamped(number)) for number in range(count))
    if rest:
        options |= {"save_all": True, "append_images": rest, "duration": milliseconds}
    first.save(path, **options)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_an_animation_is_a_video(tmp_path, kind):
    path = animate(tmp_path / kind, **KINDS[kind])
    clip = VideoClip.open(path, 100)
    assert stamps_of(clip) == list(range(COUNT)) and clip.size == stamped(0).shape[:2]
    assert clip.times == pytest.approx(STARTS_S)
    assert np.abs(clip.frames.astype(int) - np.stack([stamped(n) for n in range(COUNT)])).mean() < 4
    assert stamps_of(VideoClip.open(path, 3)) == [0, 5, 11]
    preview = VideoClip.open(write_preview(path, tmp_path / "preview.mp4"), 100)
    assert stamps_of(preview) == list(range(COUNT)) and preview.times == pytest.approx(STARTS_S, abs=1e-3)


@pytest.mark.parametrize("kind", ["lossy.webp", "lossless.webp"])
def test_the_duration_of_an_animated_webp(tmp_path, kind):
    clip = VideoClip.open(animate(tmp_path / kind, **KINDS[kind]), 4)
    assert clip.duration_s == pytest.approx(sum(MILLISECONDS) / 1000) and clip.source.codec == "webp"
    assert clip.source.decoder.startswith("Pillow ")


def test_a_webp_that_names_no_time_is_shown_as_browsers_show_it(tmp_path):
    clip = VideoClip.open(animate(tmp_path / "a.webp", 4, [0, 5, 40, 0], lossless=True))
    assert clip.times == pytest.approx([0, 0.1, 0.2, 0.24])


@pytest.mark.parametrize("name", ["still.webp", "still.png", "still.jpg", "still.bmp", "still.tiff"])
def test_a_single_picture_is_called_that(tmp_path, name):
    with pytest.raises(VideoError, match=rf"^{name} is a single picture: choose a video or an animation\.$"):
        VideoClip.open(animate(tmp_path / name, 1))


@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
@pytest.mark.parametrize("kind", ["lossy.webp", "a.png"])
def test_an_animation_that_is_cut_off_is_refused(tmp_path, kind, share):
    data = animate(tmp_path / kind, **KINDS[kind]).read_bytes()
    path = tmp_path / f"cut_{kind}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(VideoError, match="is damaged or cut off"):
        VideoClip.open(path, 100)


def test_damage_within_an_animated_webp_is_refused(tmp_path):
    data = bytearray(animate(tmp_path / "a.webp", lossless=True).read_bytes())
    position = data.index(b"ANMF", len(data) // 2)
    data[position + 24 : position + 60] = bytes(36)
    path = tmp_path / "damaged.webp"
    path.write_bytes(data)
    with pytest.raises(VideoError, match="is damaged or cut off"):
        VideoClip.open(path, 100)
