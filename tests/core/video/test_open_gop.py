"""H.264 that begins groups of pictures otherwise than with an IDR picture: intact, and so to be read to its last frame.

The oracle is PyAV from the first packet to the last, with nothing asked of it.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from sttm_core.video import VideoClip, VideoError, write_preview
from sttm_core.video.h264 import is_idr
from tests.core.video.test_stamps import make, stamp_of, stamps_of

COUNT = 240
OPEN = "open-gop=1:keyint=40:min-keyint=40:scenecut=0:b-adapt=0"
KINDS = {  # name -> x264's parameters
    "open_3.mp4": f"{OPEN}:bframes=3",
    "open_8.mp4": f"{OPEN}:bframes=8",
    "open_16.mp4": f"{OPEN}:bframes=16",
    "adaptive.mov": "open-gop=1:keyint=40:bframes=3",
    "disc.m4v": f"{OPEN}:bframes=3:bluray-compat=1:slices=4",
    "repeated_headers.mp4": f"{OPEN}:bframes=3:repeat-headers=1:aud=1",
    "open.mkv": f"{OPEN}:bframes=3",
    "open.ts": f"{OPEN}:bframes=3",
    "refresh.mp4": "intra-refresh=1:keyint=40:bframes=0",
    "refresh_b.mp4": "intra-refresh=1:keyint=40:bframes=3",
    "mbaff.mp4": "tff=1:keyint=40:bframes=3",
    "mbaff_open.mp4": "bff=1:open-gop=1:keyint=40:bframes=3",
    "one_group.mp4": "keyint=infinite:bframes=3",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("open_gop")


def made(folder: Path, name: str) -> Path:
    path = folder / name
    return path if path.exists() else make(path, num_frames=COUNT, options={"x264-params": KINDS[name]})


def in_sequence(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_intact_file_gives_all_frames_as_in_sequence(folder, kind):
    path = made(folder, kind)
    expected = in_sequence(path)
    assert [stamp_of(frame) for frame in expected] == list(range(COUNT)), "no test of an intact file"
    assert np.array_equal(VideoClip.open(path, COUNT).frames, np.stack(expected))
    few = VideoClip.open(path, 16)
    assert np.array_equal(few.frames, np.stack(expected)[few.frame_indices])
    assert few.num_source_frames == COUNT and few.times == pytest.approx(few.frame_indices / 25, abs=1.1e-3)


def test_a_file_of_idr_pictures_alone_is_left_to_decord(folder):
    decoders = {name: VideoClip.open(made(folder, name), 4).source.decoder for name in ("one_group.mp4", "open_3.mp4")}
    assert decoders["one_group.mp4"].startswith("decord ") and decoders["open_3.mp4"].startswith("PyAV ")


def cut(source: Path, path: Path, first_key: int) -> Path:
    """All packets from a key frame on, as an editor cuts without encoding: what leads that frame has no references."""
    with av.open(str(source)) as container, av.open(str(path), "w") as out:
        track = container.streams.video[0]
        copy, keys = out.add_stream_from_template(track), 0
        for packet in container.demux(track):
            keys += packet.is_keyframe and packet.size > 0
            if keys > first_key and packet.size:
                packet.stream = copy
                out.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
@pytest.mark.parametrize("kind", ["open_3.mp4", "open_16.mp4", "repeated_headers.mp4"])
def test_what_leads_the_first_key_frame_after_a_cut_is_left_out(folder, kind, suffix):
    if suffix in ("ts", "avi"):
        if kind != "repeated_headers.mp4":
            pytest.skip("without headers in the stream such a file can't be decoded by anybody")
        kind = "open.ts"
        made(folder, kind)
    path = cut(made(folder, kind), folder / f"cut_{kind}.{suffix}", first_key=2)
    stamps = stamps_of(VideoClip.open(path, COUNT))
    assert stamps == [stamp_of(frame) for frame in in_sequence(path)] == list(range(80, COUNT))
    assert stamps_of(VideoClip.open(path, 5)) == [80, 120, 160, 199, 239]
    preview = write_preview(path, folder / "preview.mp4")
    assert stamps_of(VideoClip.open(preview, COUNT)) == stamps


@pytest.mark.parametrize("kind", ["open_3.mp4", "refresh.mp4", "mbaff_open.mp4"])
def test_damage_in_such_a_file_is_still_refused_and_never_a_wrong_frame(folder, kind):
    good = made(folder, kind).read_bytes()
    random, refused = np.random.default_rng(3), 0
    start = good.index(b"mdat") + 1200
    end = max(good.rfind(b"moov"), 0)
    for trial in range(12):
        data = bytearray(good)
        for position in random.integers(start, end if end > start else len(good), size=6):
            data[position] ^= int(random.integers(1, 256))
        path = folder / f"damaged_{trial}_{kind}"
        path.write_bytes(data)
        try:
            clip = VideoClip.open(path, COUNT)
        except VideoError:
            refused += 1
        else:
            assert stamps_of(clip) == clip.frame_indices.tolist()
    assert refused > 6


def test_a_first_key_frame_that_is_damaged_is_not_taken_for_a_cut(folder):
    source = cut(made(folder, "open_3.mp4"), folder / "to_damage.mp4", first_key=2)
    with av.open(str(source)) as container:
        entry = container.streams.video[0].index_entries[0]
        position, size = entry.pos, entry.size
    data = bytearray(source.read_bytes())
    data[position + size // 2 : position + size] = bytes(size - size // 2)
    path = folder / "first_key_damaged.mp4"
    path.write_bytes(data)
    with pytest.raises(VideoError, match="is damaged or cut off"):
        VideoClip.open(path, COUNT)


AVCC = b"\x01\x64\x00\x0b\xff\xe1"  # four bytes of length before each unit
START = b"\x00\x00\x00\x01"


@pytest.mark.parametrize(
    ("packet", "extradata", "expected"),
    [
        (b"\0\0\0\2\x67\0" b"\0\0\0\2\x65\0", AVCC, True),  # SPS, IDR
        (b"\0\0\0\2\x06\0" b"\0\0\0\2\x41\0", AVCC, False),  # SEI, slice
        (b"\0\0\0\2\x41\0" b"\0\0\0\2\x65\0", AVCC, False),  # the first picture counts
        (b"\0\2\x65\0", b"\x01\x64\x00\x0b\xfd\xe1", True),  # two bytes of length
        (START + b"\x09\x10" + START + b"\x25\x88", None, True),
        (START + b"\x09\x10" + START + b"\x01\x88" + START + b"\x65", None, False),
        (b"", AVCC, False),
        (b"\xff" * 9, AVCC, False),
        (b"\x12\x34", None, False),
    ],
)
def test_what_begins_afresh(packet, extradata, expected):
    assert is_idr(packet, extradata) is expected
