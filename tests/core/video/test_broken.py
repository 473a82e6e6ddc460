"""Files that are no video, or no longer a whole one: one plain sentence, and never a wrong frame."""

from __future__ import annotations

import os
import re
from pathlib import Path

import av
import numpy as np
import pytest

import sttm_core.video.decode as video_decode
import sttm_core.video.probe as video_probe
from sttm_core.video import VideoClip, VideoError, is_browser_playable, write_preview
from tests.core.video.test_stamps import NUM_FRAMES, make, make_sound, stamps_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("video")


@pytest.fixture(scope="module")
def mp4(folder) -> Path:
    return make(folder / "plain.mp4", options={"g": "12"}, movflags="faststart")


@pytest.fixture
def no_decord(monkeypatch):
    monkeypatch.setattr(video_decode, "decord", None)


def _cut(data: bytes) -> bytes:
    return data[: len(data) * 6 // 10]


BROKEN = {  # file name -> how it is made from a good faststart MP4, words of the sentence
    "empty.mp4": (lambda data: b"", "is empty"),
    "words.mp4": (lambda data: b"Just some words.\n" * 80, "is not a video"),
    "garbage.mp4": (lambda data: np.random.default_rng(0).bytes(20000), "is not a video"),
    "playlist.mp4": (lambda data: b"ffconcat version 1.0\nfile plain.mp4\n", "is not a video"),
    "stream.m3u8": (lambda data: b"#EXTM3U\n#EXTINF:1,\nplain.mp4\n#EXT-X-ENDLIST\n", "is not a video"),
    "cut.mp4": (_cut, "is damaged or cut off"),
    "no_pictures.mp4": (lambda data: data[: data.index(b"mdat") + 4], "is damaged or cut off"),
    "zeros.mp4": (lambda data: data[:4000] + bytes(300) + data[4300:], "is damaged or cut off"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_gets_one_sentence(folder, mp4, name):
    spoil, words = BROKEN[name]
    path = folder / name
    path.write_bytes(spoil(mp4.read_bytes()))
    _assert_refused(path, words)


def test_a_recording_without_its_index_is_called_cut_off(folder):
    path = make(folder / "index_last.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    _assert_refused(path, "is cut off")


def test_a_file_cut_exactly_between_two_frames_is_called_cut_off(folder, mp4):
    with av.open(str(mp4)) as container:
        positions = sorted(entry.pos for entry in container.streams.video[0].index_entries)
    path = folder / "cut_between.mp4"
    path.write_bytes(mp4.read_bytes()[: positions[NUM_FRAMES // 2]])
    _assert_refused(path, "is damaged or cut off")


@pytest.mark.parametrize("name, words", [("missing.mp4", "was not found"), ("holiday.mp4", "is a folder")])
def test_a_path_that_is_no_file(folder, name, words):
    if "folder" in words:
        (folder / name).mkdir()
    _assert_refused(folder / name, words)


def test_sound_without_pictures(folder):
    _assert_refused(make_sound(folder / "song.mp4"), "holds sound only")


def test_the_cover_of_a_song_is_no_video(folder):
    path = folder / "covered.mp3"
    with av.open(str(path), "w") as container:
        sound, cover = container.add_stream("mp3", rate=44100), container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24")
        packets = [*cover.encode(picture), *cover.encode()]
        for number in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16p", layout="mono")
            frame.sample_rate, frame.pts = 44100, 1152 * number
            packets += sound.encode(frame)
        container.mux([*packets, *sound.encode()])
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1, "no test of a cover"
    _assert_refused(path, "holds sound only")


def test_what_is_no_regular_file_is_refused_unopened(folder):
    os.mkfifo(folder / "pipe.mp4")
    _assert_refused(folder / "pipe.mp4", "is not a regular file")


def test_a_file_of_somebody_else(mp4, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK)
    _assert_refused(mp4, "may not be read")


def test_without_pyav_frames_in_memory_still_work(mp4, monkeypatch):
    monkeypatch.setattr(video_probe, "av", None)
    with pytest.raises(VideoError, match="^Video files need PyAV, which is not installed: run `pip install av`.$"):
        VideoClip.open(mp4)
    assert VideoClip.from_frames(np.zeros((2, 4, 4, 3), np.uint8)).num_frames == 2


def _assert_refused(path: Path, words: str) -> None:
    """One sentence: the file's name, what is wrong, what to do; nothing of the decoder's words or of the path."""
    for use in (VideoClip.open, lambda p: write_preview(p, path.with_name("preview_of_broken.mp4"))):
        with pytest.raises(VideoError) as caught:
            use(path)
        message = str(caught.value)
        assert message.startswith(f"{path.name} {words}"), message
        assert re.fullmatch(r"[^\n]+: [^\n]+\.", message) and str(path.parent) not in message
        assert not re.search(r"Errno|Invalid data|\.cc|0x|av\.|decord", message)
    assert not path.with_name("preview_of_broken.mp4").exists()
    assert not list(path.parent.glob("*.part")) and not list(path.parent.glob(".*.part"))
    assert words == "is damaged or cut off" or not is_browser_playable(path)


@pytest.mark.parametrize("by", ["decord", "pyav"])
def test_damaged_bytes_never_give_wrong_frames_silently(folder, mp4, request, by):
    if by == "pyav":
        request.getfixturevalue("no_decord")
    good = mp4.read_bytes()
    start = good.index(b"mdat") + 1200  # behind the encoder's own note, which no decoder reads
    random = np.random.default_rng(7)
    refused = 0
    for trial in range(25):
        data = bytearray(good)
        for position in random.integers(start, len(data), size=4):
            data[position] ^= int(random.integers(1, 256))
        path = folder / f"bits_{by}_{trial}.mp4"
        path.write_bytes(data)
        try:
            clip = VideoClip.open(path, NUM_FRAMES)
        except VideoError:
            refused += 1
        else:
            assert stamps_of(clip) == clip.frame_indices.tolist()
    assert refused > 0


def test_only_the_damage_that_matters_is_refused(folder, mp4):
    data = bytearray(mp4.read_bytes())
    data[-60:-20] = bytes(40)  # within the last group of pictures
    path = folder / "bad_end.mp4"
    path.write_bytes(data)
    assert stamps_of(VideoClip.open(path, 1)) == [0]
    with pytest.raises(VideoError, match="damaged"):
        VideoClip.open(path, 16)
