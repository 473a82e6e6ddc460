"""The benchmark's own arithmetic, and the pairwise transcription as a third opinion on the method."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import merge_op, method_cost
from benchmarks.__main__ import benchmarks, cli
from benchmarks.merge_cases import Case, drifting_video
from benchmarks.merge_check import compare_devices, crisp_video, exact_cosines, largest_error
from benchmarks.transcription import merge_pairwise
from sttm_core import Quadtree, merge_tokens, similarity_tables, thresholds_for_retention
from sttm_core.methods import METHODS
from sttm_core.settings import RunSettings
from tests.benchmarks.commands import app_of

CPU = torch.device("cpu")


@pytest.mark.parametrize(("height", "width", "root_level"), [(14, 14, 1), (9, 11, 1), (6, 8, 0), (4, 5, 1)])
@pytest.mark.parametrize("retention", [0.2, 0.6])
def test_the_transcription_gives_the_same_tokens(height, width, root_level, retention):
    tokens, tree = drifting_video(5, height, width, 32, CPU), Quadtree(height, width, root_level)
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


def test_methods_are_timed_beside_sttm(tmp_path):
    out = tmp_path / "methods.json"
    arguments = ["--frames", "4", "--channels", "16", "--runs", "2", "--device", "cpu", "--json", str(out)]
    shown = CliRunner().invoke(app_of(merge_op.main), [*arguments, "--method", "all", "--retention", "0.4"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(out.read_text())["methods"]
    assert list(found) == list(method_cost.ON_TOKENS) and found["sttm"]["to_sttm"] == 1
    for name, line in found.items():
        assert 0 < line["min_ms"] <= line["median_ms"] <= line["max_ms"] and line["extra_mib"] is None
        assert line["to_sttm"] == line["median_ms"] / found["sttm"]["median_ms"]
        tokens = drifting_video(4, 14, 14, 16, CPU)
        assert line["retention"] == RunSettings.of(name, retention=0.4).plan(tokens, None).retention
        assert METHODS[name].title in shown.output


def test_costs_are_of_plan_and_averaging_at_fixed_knobs():
    tokens, seen = drifting_video(4, 8, 8, 16, CPU), []

    def timer(work):
        seen.append(work(tokens))
        return {"median_ms": 2.0 * len(seen)}

    found = method_cost.costs(tokens, ["tome"], 0.3, timer, lambda work: float(len(work())))
    assert list(found) == ["sttm", "tome"] and found["tome"]["to_sttm"] == 2.0
    assert [found[name]["extra_mib"] for name in found] == [len(tokens) for tokens in seen]
    merged = RunSettings.of("tome", retention=0.3).plan(tokens, None).apply(tokens).tokens
    assert torch.equal(seen[1], merged)


@pytest.mark.parametrize("arguments", [["--method", "toma"], ["--grid", "14"], ["--grid", "0x4"], ["--dtype", "int8"]])
def test_bad_options_are_refused(arguments):
    assert CliRunner().invoke(app_of(merge_op.main), arguments).exit_code == 2


def test_a_case_that_fails_is_told_and_the_others_go_on(monkeypatch, capsys):
    cases = [Case(2, 4, 4, 8), Case(2, 17, 17, 4, "float32", root_level=0)]
    real = merge_op.bench

    def bench(tokens, *args):
        if tokens.dtype == torch.bfloat16:
            raise torch.cuda.OutOfMemoryError("no room")
        return real(tokens, *args)

    monkeypatch.setattr(merge_op, "bench", bench)
    results = merge_op.run_all(cases, 0.3, 1, False, CPU)
    assert list(results) == ["2x4x4x8 bfloat16", "2x17x17x4 float32 root 0"]
    failed, measured = results.values()
    assert "no room" in failed["error"] and measured["root_level"] == 0 and measured["tokens"][0] == 578
    assert "FAILED: OutOfMemoryError: no room" in capsys.readouterr().out
    lines = merge_op.summary(results).splitlines()
    assert "failed: OutOfMemoryError" in lines[1] and lines[2].startswith("2x17x17x4 float32 root 0")


def test_large_cells_are_among_the_cases_and_checks():
    large = [case for case in merge_op.CASES if max(case.tree.patch_counts) > 64]
    assert {(case.height, case.width, case.root_level) for case in large} >= {(64, 64, 1), (24, 24, 0), (27, 27, 0)}
    assert {(64, 64, 1), (24, 24, 0), (27, 27, 0)} <= set(merge_op.CHECKED_GRIDS)


@pytest.mark.parametrize("grid", [(9, 11, 0), (4, 6, 1)])
def test_exact_cosines_are_those_of_the_tables(grid):
    tree = Quadtree(*grid)
    tokens = drifting_video(3, *grid[:2], 16, CPU)
    tables, exact = similarity_tables(tokens, tree), exact_cosines(tokens, tree)
    found = tables.child_min, tables.pair_cosines
    assert exact[0].dtype == torch.float64 and exact[1].shape == (2, len(tree.pairs))
    assert 0 < largest_error(found, exact) < 1e-6
    assert largest_error(found, [exact[0], exact[1] + 0.25]) == pytest.approx(0.25, abs=1e-5)


@pytest.mark.parametrize("grid", [(9, 11, 0), (24, 24, 0)])
def test_a_device_is_compared_with_the_cpu(grid):
    tree, tokens = Quadtree(*grid), crisp_video(3, *grid[:2], 32)
    found = compare_devices(tokens, tree, "as_released", CPU)
    assert found["tokens"][0] == tree.num_patches * 3 and found["largest_cosine_error"] < 1e-5


def test_all_benchmarks_are_listed():
    listed = CliRunner().invoke(cli, ["--list"])
    assert "merge_op" in benchmarks() and "needle_qa" in benchmarks() and "transcription" not in benchmarks()
    assert listed.output.count("\n") == len(benchmarks())
    assert CliRunner().invoke(cli, ["nothing"]).exit_code == 2
