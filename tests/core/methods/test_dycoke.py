"""DyCoke's first stage against loops, against what the released code returned, and what budgets it can't reach."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from sttm_core.methods import make_method
from tests.core.methods import naive_dycoke
from tests.core.methods.inputs import BUDGETS, GRIDS, KINDS, assert_same, video_of

REFERENCE = Path(__file__).parents[2] / "data" / "tome_dycoke_14x14.npz"
RATIOS = [0.0, 0.3, 0.7, 0.925, 1.0]


@pytest.mark.parametrize(
    ("grid", "kind", "rules"), list(product(GRIDS, KINDS, ("paper", "as_released"))), ids=lambda value: str(value)
)
def test_equals_loops_at_published_ratios(grid: tuple, kind: str, rules: str) -> None:
    for seed, ratio in enumerate(RATIOS):
        video = video_of(kind, grid, seed)
        plan = make_method("dycoke", ratio=ratio, rules=rules).plan(torch.from_numpy(video))
        kept = int((1 - ratio) * grid[1] * grid[2])
        assert_same(plan, naive_dycoke.dycoke(video, kept, rules), video)


@pytest.mark.parametrize(("grid", "kind"), list(product([*GRIDS, (16, 3, 3)], KINDS)), ids=lambda value: str(value))
def test_a_budget_is_the_nearest_that_can_be_reached(grid: tuple, kind: str) -> None:
    counts = naive_dycoke.reachable(grid[0], grid[1] * grid[2])
    for seed, retention in enumerate(BUDGETS):
        video = video_of(kind, grid, seed)
        plan = make_method("dycoke", retention=retention).plan(torch.from_numpy(video))
        allowed = math.floor(retention * math.prod(grid) + 1e-9)
        best = max((count for count in counts if count <= allowed), default=min(counts))
        assert plan.num_tokens == best
        assert_same(plan, naive_dycoke.dycoke(video, max(i for i, n in enumerate(counts) if n == best), "paper"), video)


@pytest.mark.parametrize(
    ("frames", "ratio", "percent"),
    [
        (128, 0.7, 47.7), (128, 0.925, 31.1), (128, 1.0, 25.8), (16, 0.7, 51.6), (16, 0.925, 36.2), (16, 1.0, 31.2),
    ],
)  # fmt: skip
def test_nominal_ratios_keep_what_they_keep(frames: int, ratio: float, percent: float) -> None:
    tokens = torch.randn(frames, 14, 14, 2, generator=torch.Generator().manual_seed(0))
    assert make_method("dycoke", ratio=ratio).plan(tokens).retention == pytest.approx(percent / 100, abs=6e-4)


def test_fifteen_percent_can_not_be_reached_and_the_plan_says_so() -> None:
    tokens = torch.randn(16, 14, 14, 2, generator=torch.Generator().manual_seed(0))
    assert make_method("dycoke", retention=0.15).plan(tokens).retention == 0.3125


@pytest.mark.parametrize(("nominal", "ratio"), [(700, 0.7), (925, 0.925)])
def test_equals_the_released_code(nominal: int, ratio: float) -> None:
    with np.load(REFERENCE) as arrays:
        tokens = torch.from_numpy(arrays["features"])
        kept = make_method("dycoke", ratio=ratio, rules="as_released").plan(tokens).apply(tokens)
        index, features = (arrays[f"dycoke_stage1_{nominal}_{part}"] for part in ("index", "features"))
    assert kept.plan.places.tolist() == index.tolist()
    assert np.array_equal(kept.tokens.numpy(), features)
    fair = make_method("dycoke", ratio=ratio).plan(tokens)
    assert fair.places.tolist() == sorted(index.tolist())
