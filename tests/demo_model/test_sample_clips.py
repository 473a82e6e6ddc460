"""The sample clips: what is committed is what the JSON says, and the command that makes them works."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from demo_model.clip_scripts import SAMPLES, ask_code, short_code
from demo_model.clips import RATE, SOURCES, Sample, draw, make_clips
from sttm_core.video import VideoClip

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "clips"
INDEX = json.loads((FOLDER / "samples.json").read_text(encoding="utf-8"))["samples"]
KINDS = {"ocr", "needle", "count", "order", "motion", "attribute", "untouched"}
STILL = [
    pytest.param(entry, question["needle"], id=f"{entry['id']}-{number}")
    for entry in INDEX
    for number, question in enumerate(entry["questions"])
    if "needle" in question and entry["kind"] != "motion"
]


def test_the_set_is_complete_small_and_attributed():
    assert [entry["id"] for entry in INDEX] == [sample.id for sample in SAMPLES]
    assert {entry["kind"] for entry in INDEX} == KINDS
    sizes = [(FOLDER / entry["file"]).stat().st_size for entry in INDEX]
    assert max(sizes) < 1.5e6 and sum(sizes) < 10e6
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for entry in INDEX:
        assert entry["file"] in readme and entry["attribution"] in readme
        assert all(entry[key] for key in ("title", "description", "licence", "source", "attribution", "questions"))


@pytest.mark.parametrize("entry", INDEX, ids=lambda entry: entry["id"])
def test_files_are_h264_with_the_index_first(entry):
    data = (FOLDER / entry["file"]).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat") and b"avc1" in data
    known = [question["answer"] is not None for question in entry["questions"]]
    assert not any(known) if entry["kind"] == "untouched" else all(known)


@pytest.mark.parametrize(("entry", "needle"), STILL)
def test_needles_are_seen_in_their_box_at_their_time(entry, needle):
    clip = VideoClip.open(FOLDER / entry["file"], fps=RATE)
    first = round(needle["frames"][0] * RATE)
    assert needle["frames"][1] <= clip.duration_s
    change = np.abs(clip.frames[first + 2].astype(int) - clip.frames[first - 1]).mean(axis=2)  # [H, W]
    height, width = change.shape
    y0, x0, y1, x1 = (round(v * s) for v, s in zip(needle["box"], (height, width, height, width), strict=True))
    inside = np.zeros_like(change, dtype=bool)
    inside[y0:y1, x0:x1] = True
    assert change[inside].mean() > 2 * change[~inside].mean()
    assert change[inside].max() > 30


def test_the_command_makes_the_committed_entries(tmp_path):
    chosen = (SAMPLES[0],)
    made = make_clips(tmp_path, tmp_path, chosen)["samples"]
    assert made == [entry for entry in INDEX if entry["id"] == chosen[0].id]
    assert VideoClip.open(tmp_path / made[0]["file"], num_frames=16).num_frames == 16


def test_missing_sources_are_named(tmp_path):
    sample = Sample("x", "x", "needle", "x", 1, short_code, ask_code, background="dog", size=(64, 64))
    with pytest.raises(ValueError, match=SOURCES["dog"].file):
        draw(sample, tmp_path)
