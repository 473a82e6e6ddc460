"""The benchmark's own arithmetic, and the pairwise transcription as a third opinion on the method."""

from __future__ import annotations

import json

import pytest
import torch
import typer
from typer.testing import CliRunner

from benchmarks import merge_op
from benchmarks.__main__ import benchmarks, cli
from benchmarks.transcription import merge_pairwise
from sttm_core import Quadtree, merge_tokens, similarity_tables, thresholds_for_retention

CPU = torch.device("cpu")


def app_of(command) -> typer.Typer:
    app = typer.Typer()
    app.command()(command)
    return app


@pytest.mark.parametrize(("height", "width", "root_level"), [(14, 14, 1), (9, 11, 1), (6, 8, 0), (4, 5, 1)])
@pytest.mark.parametrize("retention", [0.2, 0.6])
def test_the_transcription_gives_the_same_tokens(height, width, root_level, retention):
    tokens, tree = merge_op.drifting_video(5, height, width, 32, CPU), Quadtree(height, width, root_level)
    found = thresholds_for_retention(similarity_tables(tokens, tree), retention)
    taus = found.tau_spatial - 1e-6, found.tau_temporal - 1e-6  # those found are similarities themselves
    features, boxes = merge_pairwise(tokens, tree, *taus)
    expected = merge_tokens(tokens, *taus, root_level=root_level)
    assert torch.equal(boxes, expected.boxes)
    torch.testing.assert_close(features, expected.tokens, rtol=0, atol=1e-5)


def test_work_is_counted_as_by_hand():
    tokens = torch.zeros(3, 4, 4, 10, dtype=torch.bfloat16)  # 4x4: the root grid is the grid of patches
    work = merge_op.counted_work(tokens, Quadtree(4, 4), kept=6)
    assert work["bytes_floor"] == 3 * 16 * 10 * 2 + 6 * 10 * 2
    assert work["bytes_two_passes"] == 2 * 3 * 16 * 10 * 2 + 6 * 10 * 2 + 4 * 2 * 16
    assert work["flops"] == 2 * 5 * 16 * 10 + 2 * 480


def test_the_command_prints_and_writes_its_figures(tmp_path):
    out = tmp_path / "merge_op.json"
    arguments = ["--frames", "4", "--channels", "16", "--runs", "2", "--device", "cpu", "--json", str(out)]
    shown = CliRunner().invoke(app_of(merge_op.main), arguments)
    assert shown.exit_code == 0, shown.output
    figures = json.loads(out.read_text())
    stages = {"tables", "checked tables of both rules", "plan", "apply", "all of it", "pairwise transcription"}
    assert set(figures["stages"]) == stages
    assert 0 < figures["retention"] <= 0.3 and figures["ratios"]["to_floor"] > 1
    assert "copying runs at" in shown.output and "pairwise transcription" in shown.output


@pytest.mark.parametrize("arguments", [["--grid", "14"], ["--grid", "0x4"], ["--dtype", "int8"]])
def test_bad_options_are_refused(arguments):
    assert CliRunner().invoke(app_of(merge_op.main), arguments).exit_code == 2


def test_all_benchmarks_are_listed():
    listed = CliRunner().invoke(cli, ["--list"])
    assert "merge_op" in benchmarks() and "needle_qa" in benchmarks() and "transcription" not in benchmarks()
    assert listed.output.count("\n") == len(benchmarks())
    assert CliRunner().invoke(cli, ["nothing"]).exit_code == 2
