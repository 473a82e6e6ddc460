"""ToMe against nested loops, and against what the released code returned."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from sttm_core.methods import make_method, tome
from tests.core.methods import naive_tome
from tests.core.methods.inputs import BUDGETS, GRIDS, KINDS, assert_same, video_of

REFERENCE = Path(__file__).parents[2] / "data" / "tome_dycoke_14x14.npz"


@pytest.mark.parametrize(
    ("grid", "kind", "rules"), list(product(GRIDS, KINDS, ("paper", "as_released"))), ids=lambda value: str(value)
)
def test_equals_nested_loops(grid: tuple, kind: str, rules: str) -> None:
    for seed, retention in enumerate(BUDGETS):
        if kind == "ties" and retention < 0.5:
            continue  # means of a first round are no longer exact: their ties are the rounding's
        video = video_of(kind, grid, seed)
        count = max(1, math.floor(retention * math.prod(grid) + 1e-9))
        plan = make_method("tome", retention=retention, rules=rules).plan(torch.from_numpy(video))
        assert plan.num_tokens == count
        assert_same(plan, naive_tome.tome(video, count, rules), video)


@pytest.mark.parametrize(("percent", "ratio"), [(50, 0.5), (70, 0.7)])
def test_equals_the_released_code(percent: int, ratio: float) -> None:
    with np.load(REFERENCE) as arrays:
        tokens = torch.from_numpy(arrays["features"])
        merged = make_method("tome", ratio=ratio, rules="as_released").plan(tokens).apply(tokens)
        assert merged.plan.places.tolist() == arrays[f"tome_video_{percent}_index"].tolist()
        np.testing.assert_allclose(merged.tokens.numpy(), arrays[f"tome_video_{percent}_features"], atol=2e-6)
        fair = make_method("tome", ratio=ratio).plan(tokens)
    assert fair.num_tokens == merged.plan.num_tokens and bool((fair.places.diff() > 0).all())


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.7, 0.85, 1.0])
def test_a_prune_ratio_is_used_exactly(ratio: float) -> None:
    tokens = torch.from_numpy(video_of("smooth", (3, 5, 3)))
    assert make_method("tome", ratio=ratio).plan(tokens).num_tokens == max(1, math.ceil(45 * (1 - ratio)))


@pytest.mark.parametrize("block", [1, 3, 7])
@pytest.mark.parametrize(("kind", "count"), [("smooth", 14), ("ties", 36)])
def test_blocks_change_nothing(block: int, kind: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    video = video_of(kind, (3, 4, 6), 5)
    monkeypatch.setattr(tome, "BLOCK", block)
    for rules in ("paper", "as_released"):
        plan = make_method("tome", retention=count / 72, rules=rules).plan(torch.from_numpy(video))
        assert_same(plan, naive_tome.tome(video, count, rules), video)
