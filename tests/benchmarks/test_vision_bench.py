"""The benchmark of vision encoders: every way gives the same tokens, one that fails is told, none leaves a trace."""

from __future__ import annotations

import json

import pytest
import torch
import typer

from benchmarks import vision
from benchmarks.shapes import random_model
from benchmarks.ttft import synthetic_clip

SIZE = (112, 140)


def eager_compile(monkeypatch) -> list:
    """`torch.compile` without a compiler; what it was asked to compile."""
    asked, real = [], torch.compile
    monkeypatch.setattr(torch, "compile", lambda forward: asked.append(forward) or real(forward, backend="eager"))
    return asked


@pytest.mark.parametrize("shape", ["tiny-qwen2.5-vl", "tiny"])
def test_all_ways_give_the_same_tokens(shape, monkeypatch):
    asked, llm = eager_compile(monkeypatch), random_model(shape, "cpu")
    family = llm.family
    rows, errors = vision.compare(llm, list(vision.WAYS), synthetic_clip(4, SIZE), 2)
    assert errors == [] and [row.way for row in rows] == ["plain", "fused", "compiled"] and len(asked) == 2
    for row in rows:
        assert 0 < row.lowest <= row.vision <= row.highest and row.preprocess > 0 and row.first > 0
        assert row.off < 1e-4 and row.frames == 4
    assert llm.family is family and not any("forward" in vars(part) for part in llm.model.modules())


def test_a_way_that_fails_is_told_and_the_others_go_on(monkeypatch):
    monkeypatch.setitem(vision.WAYS, "compiled", lambda llm: 1 / 0)
    rows, errors = vision.compare(random_model("tiny", "cpu"), list(vision.WAYS), synthetic_clip(2, SIZE), 1)
    assert [row.way for row in rows] == ["plain", "fused"]
    assert errors == ["compiled: ZeroDivisionError: division by zero"]


def test_figures_are_written_and_shown(tmp_path, capsys):
    path = tmp_path / "vision.json"
    with pytest.raises(typer.Exit) as ended:
        vision.main("tiny", "2,3", "plain,fused", 1, "cpu", True, path)
    (found,) = json.loads(path.read_text())
    assert ended.value.exit_code == 0 and [row["frames"] for row in found["rows"]] == [2, 2, 3, 3]
    shown = capsys.readouterr().out
    assert "| fused | 3 |" in shown and shown.count("-- fused: ") == 2
    with pytest.raises(typer.BadParameter, match="no way 'slow'"):
        vision.main("tiny", ways="slow")
