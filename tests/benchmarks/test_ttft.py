"""The TTFT benchmark on a tiny shape: its figures add up, and it runs where no video library is installed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from benchmarks.operations import operations
from benchmarks.shapes import SHAPES, random_model
from benchmarks.ttft import (
    FOLLOW_UP,
    QUESTION,
    STAGES,
    Way,
    bench,
    first_token_again,
    height_and_width,
    synthetic_clip,
    table,
)

ROOT = Path(__file__).resolve().parents[2]
SIZE = (112, 112)
BARE = """
import sys
for name in ("av", "decord", "gradio"):
    sys.modules[name] = None
import typer
from benchmarks.ttft import main
typer.run(main)
"""


@pytest.fixture(scope="module")
def llm():
    return random_model("tiny", "cpu")


def test_figures_add_up_and_refer_to_all_tokens(llm) -> None:
    rows = bench(llm, synthetic_clip(4, SIZE), [0.5, 0.25], runs=1)
    assert [(row.frames, row.budget) for row in rows] == [(4, 1), (4, 0.5), (4, 0.25)]
    assert rows[0].retention == 1 and rows[0].video_tokens == 4 * 4 * 4 and rows[0].merge == 0
    assert (rows[0].ttft_ratio, rows[0].language_model_ratio, rows[0].prefill_ratio) == (1, 1, 1)
    for row in rows[1:]:
        assert 0 < row.retention == row.video_tokens / rows[0].video_tokens <= row.budget
        assert row.merge > 0 and row.merge_share == row.merge / row.ttft
        assert row.ttft_ratio == pytest.approx(rows[0].ttft / row.ttft)
        assert row.prefill_ratio == pytest.approx(rows[0].prefill / row.prefill)
        assert row.kv_bytes < rows[0].kv_bytes
    for row in rows:
        stages = sum(getattr(row, stage) for stage in STAGES)
        assert stages <= row.ttft < stages + 1  # the clock also sees what lies between the stages
        assert 0 < row.ttft_lowest <= row.ttft <= row.ttft_highest < math.inf
        assert 0 < row.preprocess < row.vision
        assert row.language_model == pytest.approx(row.merge + row.prefill + row.first_token)
        assert row.follow_up > 0 and row.follow_up_share == row.follow_up / row.ttft
    lines = table(rows).splitlines()
    assert len(lines) == 5
    assert len({line.count("|") for line in lines}) == 1
    assert all(f"| {row.retention:.1%} |" in line for row, line in zip(rows, lines[2:], strict=True))


@pytest.mark.parametrize("name", ["tome", "fastv"])
def test_any_method_is_timed_at_its_budget(llm, name: str) -> None:
    whole, half = bench(llm, synthetic_clip(4, SIZE), [0.5], 1, [name])
    assert (whole.method, half.method, half.budget) == ("", name, 0.5)
    assert half.video_tokens == whole.video_tokens / 2 and half.retention == 0.5
    assert half.merge > 0 and half.kv_bytes < whole.kv_bytes
    assert f"| {name} |" in table([whole, half]) and "| all tokens |" in table([whole, half])


def test_fewer_pixels_do_not_pay_for_all_of_them(llm) -> None:
    whole, small = bench(llm, synthetic_clip(4, SIZE), [0.3], 1, ["downsample"])
    assert small.video_tokens == 4 * 2 * 2 and small.retention == 0.25 and whole.video_tokens == 64
    stages = sum(getattr(small, stage) for stage in STAGES)
    assert stages <= small.ttft < stages + 1 and small.vision > 0


def test_a_question_that_decides_is_prefilled_again_for_the_next_one(llm, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, real = [], llm.timed_prefill

    def timed_prefill(encoded, method, question, **more):
        asked.append((method and method.name, question))
        return real(encoded, method, question, **more)

    monkeypatch.setattr(llm, "timed_prefill", timed_prefill)
    bench(llm, synthetic_clip(2, SIZE), [0.5], 1, ["sttm", "fastv"])
    assert asked == 2 * [(None, QUESTION), ("sttm", QUESTION), ("fastv", QUESTION), ("fastv", FOLLOW_UP)]


def test_kv_bytes_are_those_of_the_shape(llm) -> None:
    full, half = bench(llm, synthetic_clip(3, SIZE), [0.5], runs=1)
    text = SHAPES["tiny"].text
    per_token = 2 * text["num_key_value_heads"] * text["hidden_size"] // text["num_attention_heads"] * 4  # float32
    late_layers = text["num_hidden_layers"] - llm.default_merge_layer
    assert full.kv_bytes - half.kv_bytes == (full.video_tokens - half.video_tokens) * late_layers * per_token


@pytest.mark.parametrize(("retentions", "runs"), [([0], 1), ([1.5], 1), ([math.nan], 1), ([0.5], 0)])
def test_bad_input_is_refused(llm, retentions: list[float], runs: int) -> None:
    with pytest.raises(ValueError):
        bench(llm, synthetic_clip(2, SIZE), retentions, runs)


def test_the_clip_has_still_drifting_and_changing_areas() -> None:
    frames = synthetic_clip(3, (60, 90)).frames
    assert frames.shape == (3, 60, 90, 3)
    still, drifting, changing = frames[:, 40:], frames[:, 20:40], frames[:, :20, :30]
    assert (still[0] == still[1]).all()
    assert (drifting[0][:, :-3] == drifting[1][:, 3:]).all() and (drifting[0] != drifting[1]).any()
    assert (changing[0] != changing[1]).mean() > 0.9


@pytest.mark.parametrize("text", ["720", "axb", "1x2x3"])
def test_a_size_is_two_numbers(text: str) -> None:
    assert height_and_width("720x1280") == (720, 1280)
    with pytest.raises(typer.BadParameter):
        height_and_width(text)


def test_the_profile_names_what_took_time(llm) -> None:
    clip = synthetic_clip(2, SIZE)
    lines = operations(llm, lambda: first_token_again(llm, clip, Way())).splitlines()
    shares = [float(line.split("%")[0].split()[-1]) for line in lines[1:]]
    assert "under the profiler" in lines[0] and any("aten::" in line for line in lines)
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 101


def run(out: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", BARE, *options, "--runs", "1", "--device", "cpu", "--json-out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_it_runs_without_video_libraries(tmp_path: Path) -> None:
    done = run(tmp_path / "a.json", "--shape", "tiny", "--frames", "2", "--retentions", ".5", "--size", "64x64")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads((tmp_path / "a.json").read_text())
    assert [row["frames"] for row in found["rows"]] == [2, 2]
    assert found["machine"]["model"] == "tiny shape, random weights"
    assert found["machine"]["clip_size"] == [64, 64] and found["machine"]["first_encode_s"]["2"] > 0
    assert "| TTFT |" in done.stdout


def test_a_shape_that_fails_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    done = run(tmp_path / "a.json", "--shape", "9b,tiny", "--frames", "2", "--retentions", ".5")
    assert done.returncode == 1 and "9b: ValueError: There is no shape '9b'" in done.stderr
    failed, timed = json.loads((tmp_path / "a.json").read_text())
    assert failed["errors"] and not failed["rows"] and timed["rows"] and not timed["errors"]
