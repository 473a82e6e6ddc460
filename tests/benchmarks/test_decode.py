"""The decoding benchmark: both ways are timed and give the same frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.decode import bench
from sttm_core.video import VideoError, write_mp4
from sttm_core.video import decode as video_decode


def test_each_way_is_timed_and_gives_the_same_frames(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, 1, 1, 3), dtype=np.uint8).repeat(32, 1).repeat(48, 2)
    installed = video_decode.decord
    rows = bench(str(write_mp4(frames, tmp_path / "colours.mp4", fps=3)), 4, runs=2)
    assert [row.path for row in rows] == ["PyAV"] + ["decord where it is exact"] * (installed is not None)
    for row in rows:
        assert (row.frames, row.largest_difference) == (4, 0)
        assert 0 < row.lowest_s <= row.median_s <= row.highest_s
    assert video_decode.decord is installed


def test_a_broken_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 99)
    with pytest.raises(VideoError):
        bench(str(tmp_path / "broken.mp4"), 4, runs=1)
