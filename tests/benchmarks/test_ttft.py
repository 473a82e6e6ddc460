"""The TTFT benchmark on a tiny shape: its figures add up, and it runs where no video library is installed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.shapes import SHAPES, configuration, random_model
from benchmarks.ttft import STAGES, bench, synthetic_clip, table

ROOT = Path(__file__).resolve().parents[2]
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
    rows = list(bench(llm, synthetic_clip(4, side=112), [0.5, 0.25], runs=2))
    assert [row.frames for row in rows] == [4] * 3
    assert rows[0].retention == 1 and rows[0].video_tokens == 4 * 4 * 4 and rows[0].merge == 0
    assert (rows[0].ttft_ratio, rows[0].language_model_ratio) == (1, 1)
    for row, budget in zip(rows[1:], (0.5, 0.25), strict=True):
        assert 0 < row.retention == row.video_tokens / rows[0].video_tokens <= budget
        assert row.merge > 0
        assert row.ttft_ratio == pytest.approx(rows[0].ttft / row.ttft)
        assert row.kv_bytes < rows[0].kv_bytes
    for row in rows:
        # two runs: their median is their mean, so medians add up
        assert row.ttft == pytest.approx(sum(getattr(row, stage) for stage in STAGES))
        assert 0 < row.ttft_lowest <= row.ttft <= row.ttft_highest < math.inf
        assert row.language_model == pytest.approx(row.merge + row.prefill + row.first_token)
    lines = table(rows).splitlines()
    assert len(lines) == 5
    assert len({line.count("|") for line in lines}) == 1
    assert all(f"| {row.retention:.1%} |" in line for row, line in zip(rows, lines[2:], strict=True))


def test_kv_bytes_are_those_of_the_shape(llm) -> None:
    full, half = bench(llm, synthetic_clip(3, side=112), [0.5], runs=1)
    text = SHAPES["tiny"]["text"]
    per_token = 2 * text["num_key_value_heads"] * text["hidden_size"] // text["num_attention_heads"] * 4  # float32
    late_layers = text["num_hidden_layers"] - llm.default_merge_layer
    assert full.kv_bytes - half.kv_bytes == (full.video_tokens - half.video_tokens) * late_layers * per_token


@pytest.mark.parametrize(("retentions", "runs"), [([0], 1), ([1.5], 1), ([math.nan], 1), ([0.5], 0)])
def test_bad_input_is_refused(llm, retentions: list[float], runs: int) -> None:
    with pytest.raises(ValueError):
        list(bench(llm, synthetic_clip(2, side=112), retentions, runs))


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="There is no shape '8b'; there are llava-onevision-7b"):
        random_model("8b")


@pytest.mark.parametrize(
    ("name", "billions"), [("llava-onevision-7b", (7.9, 8.1)), ("llava-onevision-0.5b", (0.85, 1.05))]
)
def test_published_shapes_have_their_published_size(llm, name: str, billions: tuple[float, float]) -> None:
    from transformers import LlavaOnevisionForConditionalGeneration

    with torch.device("meta"):
        model = LlavaOnevisionForConditionalGeneration(configuration(name, llm.processor))
    count = sum(weight.numel() for weight in model.parameters()) / 1e9
    assert billions[0] < count < billions[1]


def test_it_runs_without_video_libraries(tmp_path: Path) -> None:
    out = tmp_path / "ttft.json"
    options = ["--shape", "tiny", "--frames", "2", "--retentions", ".5", "--runs", "1", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", BARE, *options, "--json-out", str(out)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert [row["frames"] for row in found["rows"]] == [2, 2]
    assert found["machine"]["model"] == "tiny shape, random weights"
    assert "| TTFT |" in done.stdout
