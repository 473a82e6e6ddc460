"""VideoClip.open against stamped files made here: the right frames, their times, the right way up."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

import sttm_core.video.decode as video_decode
from sttm_core.video import VideoClip, VideoError, even_frames, step_frames, uniform_indices
from tests.core.video.test_stamps import HEIGHT, NUM_FRAMES, WIDTH, make, stamp_of, stamped, stamps_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("video")


@pytest.fixture(scope="module")
def mp4(folder) -> Path:
    return make(folder / "plain.mp4", options={"g": "12"}, movflags="faststart")


@pytest.fixture
def no_decord(monkeypatch):
    monkeypatch.setattr(video_decode, "decord", None)


# The right frames


KINDS = {  # name -> codec, encoder options
    "h264.mp4": ("libx264", {"g": "12", "bf": "2"}),
    "one_key_frame.mov": ("libx264", {"g": "600", "bf": "3"}),
    "h264_b_frames.avi": ("libx264", {"bf": "2", "g": "20"}),
    "mpeg4_b_frames.avi": ("mpeg4", {"bf": "2", "g": "15"}),
    "mpeg2.mpg": ("mpeg2video", {"bf": "2", "g": "15"}),
    "h264.ts": ("libx264", {"g": "12"}),
    "h264.mkv": ("libx264", {"g": "12"}),
    "hevc.mp4": ("libx265", {"x265-params": "log-level=none:keyint=20"}),
    "vp9.webm": ("libvpx-vp9", {"g": "20", "deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "1"}),
    "vp8.webm": ("libvpx", {"g": "20", "deadline": "realtime"}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_frames", [1, 7, 16, 200])
def test_the_frames_asked_for_come_back(folder, kind, num_frames):
    codec, options = KINDS[kind]
    path = folder / kind
    if not path.exists():
        make(path, codec, options=options)
    clip = VideoClip.open(path, num_frames)
    count = min(num_frames, NUM_FRAMES)
    expected = [round(k * (NUM_FRAMES - 1) / (count - 1)) for k in range(count)] if count > 1 else [0]
    assert clip.frame_indices.tolist() == expected
    assert stamps_of(clip) == expected
    assert clip.frames.dtype == np.uint8 and clip.frames.shape == (count, HEIGHT, WIDTH, 3)
    assert clip.times == pytest.approx(np.array(expected) / 25, abs=1.1e-3)
    assert clip.num_source_frames == NUM_FRAMES
    assert clip.duration_s == pytest.approx(NUM_FRAMES / 25, abs=0.01)
    assert clip.fps == pytest.approx(25, abs=0.2)


def test_decord_reads_h264_in_mp4_and_agrees_with_pyav(mp4, monkeypatch):
    calls = []
    original = video_decode._read_with_decord
    monkeypatch.setattr(video_decode, "_read_with_decord", lambda *a: calls.append(1) or original(*a))
    by_decord = VideoClip.open(mp4, 16)
    assert calls
    monkeypatch.setattr(video_decode, "decord", None)
    by_pyav = VideoClip.open(mp4, 16)
    assert len(calls) == 1
    assert np.array_equal(by_decord.frames, by_pyav.frames)
    assert by_decord.times == pytest.approx(by_pyav.times)


@pytest.mark.parametrize("kind", ["h264_b_frames.avi", "vp9.webm", "hevc.mp4"])
def test_decord_is_not_asked_for_other_files(folder, kind, monkeypatch):
    path = make(folder / f"other_{kind}", KINDS[kind][0], num_frames=5, options=KINDS[kind][1])

    def fail(*_):
        raise AssertionError("decord was asked")

    monkeypatch.setattr(video_decode.decord, "VideoReader", fail)
    assert stamps_of(VideoClip.open(path)) == [0, 1, 2, 3, 4]


def _failing_reader(*_, **__):
    raise video_decode.DECORDError("/secret/path.cc:12: Check failed")


class _DroppingReader:
    """A decord that counts one frame less than the file has."""

    def __init__(self, *_, **__):
        pass

    def __len__(self):
        return NUM_FRAMES - 1


class _LateReader:
    """A decord whose clock is off from the tenth frame on."""

    def __init__(self, *_, **__):
        pass

    def __len__(self):
        return NUM_FRAMES

    def get_frame_timestamp(self, indices):
        starts = np.array(indices) / 25
        starts[10:] += 0.04
        return np.stack([starts, starts + 0.04], axis=1)


@pytest.mark.parametrize("reader", [_failing_reader, _DroppingReader, _LateReader])
def test_pyav_takes_over_where_decord_fails_or_disagrees(mp4, monkeypatch, reader):
    monkeypatch.setattr(video_decode.decord, "VideoReader", reader)
    assert stamps_of(VideoClip.open(mp4, 3)) == [0, 30, 59]


def test_frames_hidden_by_an_edit_list_are_not_counted(folder):
    # Frames stamped before second 0 are hidden from a viewer by the edit list that the muxer writes.
    ticks = [40 * (n - 10) for n in range(NUM_FRAMES)]
    path = make(folder / "edited.mp4", ticks=ticks, options={"bf": "0"})
    clip = VideoClip.open(path, 200)
    assert stamps_of(clip) == list(range(10, NUM_FRAMES))
    assert clip.times == pytest.approx(np.arange(50) / 25, abs=1e-3)


def test_a_recording_that_starts_between_key_frames_starts_at_the_first_one(folder):
    whole = make(folder / "whole.ts", options={"g": "12", "bf": "0", "sc_threshold": "0"})
    data = whole.read_bytes()
    cut = folder / "joined.ts"
    cut.write_bytes(data[: 188 * 3] + data[188 * 12 :])  # tables, then the stream from the middle of a group
    clip = VideoClip.open(cut, 200)
    stamps = stamps_of(clip)
    assert stamps == list(range(stamps[0], NUM_FRAMES)) and stamps[0] % 12 == 0 and stamps[0] > 0
    assert clip.times[0] == 0


# Time


TICKS = np.cumsum([0] + [20 + 13 * (n * 7 % 11) for n in range(NUM_FRAMES - 1)]).tolist()


@pytest.mark.parametrize("name, codec", [("vfr.mp4", "libx264"), ("vfr.webm", "libvpx-vp9"), ("vfr.mkv", "libx264")])
def test_a_variable_frame_rate_keeps_every_frames_own_time(folder, name, codec):
    clip = VideoClip.open(make(folder / name, codec, ticks=TICKS, options={"g": "15"}), 11)
    assert stamps_of(clip) == clip.frame_indices.tolist()
    assert clip.times == pytest.approx([TICKS[i] / 1000 for i in clip.frame_indices], abs=1.1e-3)
    assert clip.times[5] != pytest.approx(clip.frame_indices[5] / clip.fps, abs=0.01), "no test of a varying rate"


@pytest.mark.parametrize("fps", [0.5, 1, 3, 10, 24, 1000])
@pytest.mark.parametrize("name", ["plain", "varying"])
def test_fps_takes_the_frame_on_screen_at_each_tick(folder, mp4, name, fps):
    ticks = TICKS if name == "varying" else [40 * n for n in range(NUM_FRAMES)]
    path = mp4 if name == "plain" else make(folder / f"varying_{fps}.mp4", ticks=TICKS)
    clip = VideoClip.open(path, fps=fps)
    expected, k = [], 0
    while k * 1000 / fps <= ticks[-1] + 1:  # one tick at a time, in milliseconds
        shown = max(n for n in range(NUM_FRAMES) if ticks[n] <= k * 1000 / fps + 1)
        expected += [] if shown in expected else [shown]
        k += 1
    assert stamps_of(clip) == expected == clip.frame_indices.tolist()


def test_fps_falls_back_to_even_spacing_beyond_max_frames(mp4):
    clip = VideoClip.open(mp4, fps=10, max_frames=5)
    assert stamps_of(clip) == [0, 15, 30, 44, 59]
    at_rate = stamps_of(VideoClip.open(mp4, fps=10))
    assert stamps_of(VideoClip.open(mp4, fps=10, max_frames=len(at_rate))) == at_rate  # exactly as many as allowed
    assert at_rate != uniform_indices(NUM_FRAMES, len(at_rate)).tolist()
    assert VideoClip.open(mp4, 40, max_frames=2).frame_indices.tolist() == [0, 59]


RECORDING = np.concatenate([np.arange(60) * 0.04, 2.4 + np.arange(180) * 2.0]).tolist()  # a screen: 2.4 s, then 360 s


@pytest.mark.parametrize("wanted", [1, 2, 7, 16, 50])
def test_frames_are_spread_over_time_not_over_the_files_numbers(folder, wanted):
    path = folder / "screen.mp4"
    if not path.exists():
        make(path, num_frames=240, ticks=[round(1000 * t) for t in RECORDING], options={"g": "30"})
    clip = VideoClip.open(path, wanted)
    last = RECORDING[-1]
    moments = [last * k / (wanted - 1) for k in range(wanted)] if wanted > 1 else [0.0]
    expected = [max(n for n, t in enumerate(RECORDING) if t <= moment + 1e-3) for moment in moments]
    assert stamps_of(clip) == expected == clip.frame_indices.tolist()
    assert clip.times == pytest.approx([RECORDING[n] for n in expected], abs=1.1e-3)
    assert wanted == 1 or (clip.times < 2.4).sum() <= 1  # 30 of 120 and more by the rule of numbers


def test_a_frame_that_stays_on_screen_is_taken_once():
    times = np.array([0.0, 1, 2, 3, 100, 101, 102, 103])
    assert even_frames(times, 5).tolist() == [0, 3, 7] and even_frames(times, 8).tolist() == list(range(8))


CLOCKS = {  # how files of a constant rate state their times: frame number and rate -> seconds
    "exact": lambda n, rate: n / rate,
    "milliseconds": lambda n, rate: np.round(n * 1000 / rate) / 1000,
    "cut off to milliseconds": lambda n, rate: np.floor(n * 1000 / rate) / 1000,
}


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("rate", [1, 23.976, 25, 29.97, 60, 240])
def test_at_a_constant_rate_time_and_number_say_the_same(clock, rate):
    for total in (2, 3, 60, 249, 1001, 18000):
        times = CLOCKS[clock](np.arange(total), rate)
        for wanted in (1, 2, 7, 16, 128, 1000):
            assert np.array_equal(even_frames(times, wanted), uniform_indices(total, wanted))


@pytest.mark.parametrize("by", ["decord", "pyav"])
def test_the_number_of_frames_may_depend_on_the_duration(mp4, request, by):
    if by == "pyav":
        request.getfixturevalue("no_decord")
    told = []
    assert stamps_of(VideoClip.open(mp4, lambda seconds: told.append(seconds) or 3)) == [0, 30, 59]
    assert told == [pytest.approx(2.4)] * len(told)


@pytest.mark.parametrize("by", ["decord", "pyav"])
def test_the_frames_of_a_clip_can_be_had_again_by_number(mp4, request, by):
    if by == "pyav":
        request.getfixturevalue("no_decord")
    first = VideoClip.open(mp4, fps=7)
    again = VideoClip.open(mp4, indices=first.frame_indices.tolist())
    assert np.array_equal(again.frames, first.frames) and np.array_equal(again.times, first.times)
    assert stamps_of(VideoClip.open(mp4, indices=[3, 4, 59])) == [3, 4, 59]
    with pytest.raises(VideoError, match=r"^plain\.mp4 has 60 frames: frame 60 is not one of them\.$"):
        VideoClip.open(mp4, indices=[0, 60])


@pytest.mark.parametrize("indices", [[], [[0]], [0.5], ["0"], [-1, 2], [1, 1], [2, 1], list(range(1025))])
def test_numbers_of_frames_that_make_no_clip(indices):
    with pytest.raises(ValueError, match="^indices .*: give "):
        VideoClip.open("there_is_no_such_file.mp4", indices=indices)


@pytest.mark.parametrize("total, wanted", [(1, 1), (1, 9), (5, 5), (6, 5), (249, 16), (18000, 128), (1025, 1024)])
def test_uniform_indices_are_distinct_and_reach_both_ends(total, wanted):
    indices = uniform_indices(total, wanted)
    assert len(set(indices.tolist())) == min(total, wanted) and (np.diff(indices) > 0).all()
    assert indices[0] == 0 and (wanted == 1 or indices[-1] == total - 1)


# Orientation and size


def _quarter_turns(degrees):
    return lambda stream: stream.set_display_rotation(degrees)


@pytest.mark.parametrize("by", ["decord", "pyav"])
@pytest.mark.parametrize("degrees, turns", [(90, 1), (180, 2), (-90, 3)])
def test_a_rotated_phone_video_comes_back_upright(folder, request, by, degrees, turns):
    if by == "pyav":
        request.getfixturevalue("no_decord")
    path = make(folder / f"rotated_{by}_{degrees}.mp4", num_frames=6, setup=_quarter_turns(degrees))
    clip = VideoClip.open(path)
    expected = np.stack([np.rot90(stamped(n), turns) for n in range(6)])
    assert clip.frames.shape == expected.shape and clip.size == clip.source_size == expected.shape[1:3]
    assert np.abs(clip.frames.astype(int) - expected).mean() < 6
    assert [stamp_of(np.rot90(f, -turns)) for f in clip.frames] == [0, 1, 2, 3, 4, 5]


def test_a_mirrored_selfie_video_comes_back_as_seen(folder):
    one = 1 << 16
    mirror = [-one, 0, 0, 0, one, 0, WIDTH << 16, 0, 1 << 30]
    path = make(folder / "mirrored.mp4", num_frames=4, setup=lambda stream: stream.set_display_matrix(mirror))
    clip = VideoClip.open(path)
    assert np.abs(clip.frames.astype(int) - np.stack([stamped(n)[:, ::-1] for n in range(4)])).mean() < 6


@pytest.mark.parametrize("by", ["decord", "pyav"])
@pytest.mark.parametrize("max_side, size", [(80, (60, 80)), (50, (38, 50)), (1, (1, 1)), (500, (HEIGHT, WIDTH))])
def test_max_side_shrinks_and_never_enlarges(mp4, request, by, max_side, size):
    if by == "pyav":
        request.getfixturevalue("no_decord")
    clip = VideoClip.open(mp4, 3, max_side=max_side)
    assert clip.size == size and clip.source_size == (HEIGHT, WIDTH)
    if max_side >= 50:
        assert stamps_of(clip) == [0, 30, 59]


def test_frames_that_would_exhaust_memory_are_refused(mp4, monkeypatch):
    monkeypatch.setattr(video_decode, "MAX_FRAME_BYTES", 10 * HEIGHT * WIDTH * 3)
    assert VideoClip.open(mp4, 10).num_frames == 10
    with pytest.raises(VideoError, match=r"^plain\.mp4 is too large: 11 frames of 160x120 .* max_side"):
        VideoClip.open(mp4, 11)
    assert VideoClip.open(mp4, 40, max_side=80).num_frames == 40


# The clip itself


BAD_ARGUMENTS = [
    ({"num_frames": 0}, "num_frames is 0"),
    ({"num_frames": 1025}, "num_frames is 1025"),
    ({"num_frames": 2.5}, "num_frames is 2.5"),
    ({"num_frames": True}, "num_frames is True"),
    ({"fps": 0}, "fps is 0"),
    ({"fps": float("nan")}, "fps is nan"),
    ({"fps": "2"}, "fps is '2'"),
    ({"fps": 1, "max_frames": 0}, "max_frames is 0"),
    ({"max_side": 0}, "max_side is 0"),
]


@pytest.mark.parametrize("arguments, message", BAD_ARGUMENTS)
def test_bad_arguments_are_refused_before_the_file_is_looked_at(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}: give ") as caught:
        VideoClip.open("there_is_no_such_file.mp4", **arguments)
    assert not isinstance(caught.value, VideoError)


def test_a_clip_tells_what_it_is(mp4):
    clip = VideoClip.open(str(mp4), 4)
    assert repr(clip) == "VideoClip('plain.mp4', 4 of 60 frames, 160x120, 2.40 s)"
    assert clip.num_frames == 4 and clip.path == mp4 and clip.name == "plain.mp4"
    assert clip.content_hash == hashlib.sha256(mp4.read_bytes()).hexdigest()
    assert 0 < clip.decode_s < 30


def test_one_frame_is_a_clip(folder):
    clip = VideoClip.open(make(folder / "one.mp4", num_frames=1), 16)
    assert clip.num_frames == clip.num_source_frames == 1 and clip.times.tolist() == [0]
    assert clip.duration_s == pytest.approx(0.04) and clip.fps == pytest.approx(25)


def test_frames_in_memory():
    frames = np.stack([stamped(n) for n in range(3)])
    clip = VideoClip.from_frames(frames)
    assert clip.times.tolist() == [0, 1, 2] and clip.duration_s == 3 and clip.fps == 1
    timed = VideoClip.from_frames(list(frames), times=[0.5, 1.0, 2.0], name="screen")
    assert timed.name == "screen" and timed.times.tolist() == [0.5, 1.0, 2.0] and stamps_of(timed) == [0, 1, 2]
    assert timed.duration_s == 1.5 + 0.75 and timed.fps == 3 / 2.25  # the last frame is shown as long as the others
    assert clip.content_hash == VideoClip.from_frames(frames.copy()).content_hash
    assert len({clip.content_hash, timed.content_hash, VideoClip.from_frames(frames[::-1]).content_hash}) == 3


GOOD = np.zeros((2, 4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    "frames, times, message",
    [
        (GOOD.astype(np.float32), None, "float32"),
        (GOOD[0], None, r"\[4, 6, 3\]"),
        (GOOD[:0], None, r"\[0, 4, 6, 3\]"),
        (GOOD[..., :1], None, r"\[2, 4, 6, 1\]"),
        (np.zeros((1025, 1, 1, 3), np.uint8), None, "1025"),
        ([GOOD[0], GOOD[0, :2]], None, "differ in size"),
        (GOOD, [0.0], "2 frames"),
        (GOOD, [1.0, 1.0], "increase"),
        (GOOD, [0.0, float("nan")], "increase"),
        (GOOD, [-1.0, 0.0], "increase"),
    ],
)
def test_bad_frames_in_memory_are_refused(frames, times, message):
    with pytest.raises(ValueError, match=message):
        VideoClip.from_frames(frames, times)


@pytest.mark.parametrize(
    ("frames", "steps", "shown"),
    [(4, 4, [0, 1, 2, 3]), (4, 2, [0, 2]), (5, 3, [0, 2, 4]), (1, 1, [0]), (9, 3, [0, 3, 6])],
)
def test_a_step_in_time_is_shown_by_its_first_frame(frames, steps, shown):
    assert step_frames(frames, steps).tolist() == shown


@pytest.mark.parametrize(("frames", "steps"), [(3, 4), (5, 4), (0, 1)])
def test_frames_that_make_other_steps_are_refused(frames, steps):
    with pytest.raises(ValueError, match=f"{frames} frames do not make {steps} steps"):
        step_frames(frames, steps)
