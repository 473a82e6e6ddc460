"""The runs of a visit: rows, files, and the curve that the inspector predicts from."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sttm_core.repeat import read_run
from sttm_core.settings import RunSettings
from tests.viz.columns import LAYER, PATCHES, TIMES, answer, column, seen
from viz.files import Files
from viz.studio import VideoRef
from viz.tabs.history import HISTORY, history_row, prefill_curve, run_record, write_history

REF = VideoRef("/secret/place/clip.mp4", "clip.mp4", "abc", 8, 8, (120, 160), 2.0)


def run(kept: int = 10, question: str = "What?", ref: VideoRef = REF, layer: int = LAYER, **changes):
    columns = column(None, answer("one")), column(kept, answer("two", TIMES / 2))
    for name, value in changes.items():
        setattr(columns[0], name, value)
    settings = RunSettings.of(tau_spatial=0.9, tau_temporal=0.8)
    return run_record(ref, question, settings, columns, layer, seen(ref.num_frames), 64)


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


def test_a_row_has_what_its_headers_say():
    row = dict(zip(HISTORY, history_row(run()), strict=True))
    assert row == {
        "question": "What?", "method": "STTM", "all tokens": "one", "merged": "two", "answer": "changed",
        "kept": "10.0%", "τ_S": "0.9",
        "τ_T": "0.8", "TTFT all": "2.00 s", "TTFT merged": "1.00 s", "faster": "×2.00", "video": "clip.mp4",
        "frames": 8, "rules": "paper",
    }  # fmt: skip


def test_a_run_holds_what_it_takes_to_repeat_it(tmp_path):
    record = run()
    (tmp_path / "runs.json").write_text(json.dumps([record, record]), encoding="utf-8")
    found = read_run(tmp_path / "runs.json", 2)
    assert (found.video, found.question, found.model, found.text, found.kept) == (
        "clip.mp4", "What?", "tiny", "two", 10,
    )  # fmt: skip
    assert found.indices == record["frames"]["indices"] and found.content_hash == "abc"
    assert found.settings.but(merge_layer=None) == RunSettings.of(tau_spatial=0.9, tau_temporal=0.8)
    assert found.limits["max_new_tokens"] == 64


def test_a_failed_column_leaves_the_row_readable():
    row = dict(zip(HISTORY, history_row(run(error="no memory")), strict=True))
    assert (row["all tokens"], row["merged"], row["faster"], row["TTFT all"]) == ("(failed)", "two", "", "")


def test_files_hold_all_runs_and_no_path_and_no_formula(files):
    runs = [run(), run(question="=HYPERLINK(1)")]
    as_csv, as_json = write_history(runs, files)
    text = Path(as_csv).read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["question"] for row in rows] == ["'=HYPERLINK(1)", "What?"]
    assert json.loads(Path(as_json).read_text(encoding="utf-8")) == runs
    assert "secret" not in text + Path(as_json).read_text(encoding="utf-8")
    assert Path(as_csv).parent != Path(write_history(runs, files)[0]).parent, "each visit has its own folder"


@pytest.mark.parametrize("begins", ["=", "+", "-", "@"])
def test_a_spreadsheet_takes_no_cell_for_a_formula(files, begins):
    as_csv, _ = write_history([run(question=f"{begins}1+2")], files)
    rows = list(csv.DictReader(Path(as_csv).read_text(encoding="utf-8-sig").splitlines()))
    assert rows[0]["question"] == f"'{begins}1+2" and rows[0]["merged"] == "two"


def test_the_curve_is_of_this_video_frames_and_layer():
    other = replace(REF, content_hash="other")
    runs = [run(10), run(50), run(70, ref=other), run(80, layer=0), run(90, ref=replace(REF, num_frames=4))]
    curve = prefill_curve(runs, REF, LAYER)
    assert curve["tokens"] == [10, 50, PATCHES]
    assert curve["seconds"] == [TIMES.prefill / 2, TIMES.prefill / 2, TIMES.prefill]
    assert prefill_curve([], REF, LAYER) is None
    assert prefill_curve([run(PATCHES)], REF, LAYER) is None, "one point is no curve"
    assert prefill_curve([run(error="no memory")], REF, LAYER) is None


def test_the_latest_run_counts():
    first, second = run(10), run(10)
    second["merged"]["timings_s"]["prefill"] = 9.0
    assert prefill_curve([first, second], REF, LAYER)["seconds"][0] == 9.0
