"""Plans and figures as files: nothing lost, and readable by other programs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sttm_core import Quadtree, similarity_tables
from viz import plan_files
from viz.plan_files import plan_dict, write_figure, write_plan


@pytest.fixture
def tokens() -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.randn(1, 2, 3, 24, generator=generator).repeat(6, 1, 1, 1)
    smooth = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)
    return smooth + 0.3 * torch.randn(6, 8, 12, 24, generator=generator)  # [T, H, W, C]


@pytest.mark.parametrize("rules", ["paper", "as_released"])
def test_the_json_plan_rebuilds_the_tokens(tokens: torch.Tensor, rules: str) -> None:
    tables = similarity_tables(tokens, Quadtree(8, 12))
    plan = tables.plan(0.9, 0.85, rules)
    found = json.loads(json.dumps(plan_dict(plan), allow_nan=False))
    assert 0 < found["tokens"]["kept"] < found["tokens"]["all"] == 6 * 8 * 12
    assert sum(found["patch_counts"]) == found["tokens"]["all"]
    assert sum(found["tokens_per_frame"]) == found["tokens"]["kept"] == len(found["boxes"])
    patches = [0] * len(found["boxes"])
    first = {}
    for (t, y0, x0, y1, x1), token in zip(found["nodes"], found["node_tokens"], strict=True):
        patches[token] += (y1 - y0) * (x1 - x0)
        first.setdefault(token, [t, y0, x0, y1, x1])
    assert patches == found["patch_counts"]
    assert [first[token] for token in range(len(patches))] == found["boxes"]
    joined = [found["node_tokens"][a] == found["node_tokens"][b] for a, b in found["links"]]
    assert joined and (all(joined) or rules == "as_released")
    assert min(found["link_cosines"]) >= 0.85


@pytest.mark.parametrize(("steps", "shown"), [(1, [0]), (4, [0, 1, 2, 3]), (6, [0, 1, 2, 4, 5])])
def test_the_figure_shows_up_to_five_steps_by_their_first_frames(tokens, tmp_path, monkeypatch, steps, shown) -> None:
    seen = {}
    figure = SimpleNamespace(savefig=lambda path, dpi: None)
    monkeypatch.setattr(plan_files, "merge_figure", lambda *given: seen.update(given=given) or figure)
    clip = SimpleNamespace(frames=np.arange(2 * steps), times=np.arange(2 * steps) / 4)
    plan = similarity_tables(tokens[:steps], Quadtree(8, 12)).plan(0.9, 0.85)
    write_figure(SimpleNamespace(clip=clip, step_frames=np.arange(steps) * 2), plan, tmp_path / "plan.pdf")
    frames, _, indices, times = seen["given"]
    assert (frames / 2).tolist() == list(range(steps)) == (2 * times).tolist() and indices == shown


def test_files_hold_the_plan_the_runs_and_a_figure(tokens: torch.Tensor, tmp_path: Path) -> None:
    plan = similarity_tables(tokens, Quadtree(8, 12)).plan(0.9, 0.85)
    file = write_plan(plan, [{"question": "Wie heißt der Code?"}], tmp_path / "plan.json")
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["runs"][0]["question"] == "Wie heißt der Code?"
    assert found["plan"] == plan_dict(plan)
    frames = np.random.default_rng(0).integers(0, 255, (12, 32, 48, 3), dtype=np.uint8)
    clip = SimpleNamespace(frames=frames, times=np.arange(12) / 4)
    encoded = SimpleNamespace(clip=clip, step_frames=np.arange(6) * 2)
    assert write_figure(encoded, plan, tmp_path / "plan.pdf").read_bytes().startswith(b"%PDF")
