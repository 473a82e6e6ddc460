"""The original video: played as it is, or as one copy that all who look at it share."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from sttm_core.video import VideoClip, is_browser_playable, write_preview
from tests.core.video.test_stamps import make
from viz.files import Files
from viz.studio import VideoRef
from viz.tabs import original
from viz.tabs.original import OriginalVideo

PEOPLE = 6


def ref_of(path: Path) -> VideoRef:
    return VideoRef(str(path), path.name, VideoClip.open(path, 1).content_hash, 8, 8, (48, 64), 1.0)


@pytest.mark.parametrize("name, codec", [("a.mp4", "libx264"), ("a.avi", "mpeg4")])
def test_what_browsers_cannot_play_gets_a_preview(tmp_path, name, codec):
    path = make(tmp_path / name, codec, num_frames=8)
    shown = OriginalVideo(Files(tmp_path / "made")).playable(ref_of(path))
    assert (shown == str(path)) == (name == "a.mp4") and is_browser_playable(shown)
    assert VideoClip.open(shown, 8).num_source_frames == 8
    assert sorted(tmp_path.glob("a*")) == [path]  # nothing beside the upload


@pytest.fixture
def counted(monkeypatch):
    """How often a preview was written, by whom at the same time."""
    written, together = [], threading.Semaphore(1)

    def write(path, out):
        assert together.acquire(blocking=False), "two at once"
        written.append(path)
        write_preview(path, out)
        together.release()

    monkeypatch.setattr(original, "write_preview", write)
    return written


def test_people_who_open_it_at_once_get_one_whole_preview(tmp_path, counted):
    ref = ref_of(make(tmp_path / "a.avi", "mpeg4", num_frames=60))
    copy = tmp_path / "uploaded again.avi"
    copy.write_bytes(Path(ref.path).read_bytes())
    refs = [ref, replace(ref, path=str(copy))] * (PEOPLE // 2)
    video, start = OriginalVideo(Files(tmp_path / "made")), threading.Barrier(PEOPLE)
    with ThreadPoolExecutor(PEOPLE) as pool:
        shown = list(pool.map(lambda ref: start.wait() and None or video.playable(ref), refs))
    assert len(set(shown)) == 1 and len(counted) == 1
    assert VideoClip.open(shown[0], 64).num_source_frames == 60
    assert video.playable(ref) == shown[0] and len(counted) == 1  # nor at the next opening


def test_the_same_preview_written_twice_at_once_is_whole(tmp_path):
    """Without anybody who takes turns: each has a name of its own until it is complete."""
    path, start = make(tmp_path / "a.avi", "mpeg4", num_frames=60), threading.Barrier(PEOPLE)
    out = tmp_path / "out.mp4"
    with ThreadPoolExecutor(PEOPLE) as pool:
        list(pool.map(lambda _: start.wait() and None or write_preview(path, out), range(PEOPLE)))
    assert VideoClip.open(out, 64).num_source_frames == 60
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.avi", "out.mp4"]


def test_a_preview_that_fails_leaves_nothing_and_the_next_one_tries_again(tmp_path, monkeypatch):
    ref = ref_of(make(tmp_path / "a.avi", "mpeg4", num_frames=8))
    video = OriginalVideo(Files(tmp_path / "made"))
    with monkeypatch.context() as broken:
        broken.setattr(original, "write_preview", lambda path, out: out.write_bytes(b"half") and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            video.playable(ref)
    assert is_browser_playable(video.playable(ref))
