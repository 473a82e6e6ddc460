"""The octree against recursion over node objects; its budget against all thresholds there are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sttm_core.methods import make_method
from tests.core.methods import naive_octree
from tests.core.methods.inputs import BUDGETS, GRIDS, assert_same, video_of
from tests.core.videos import safe_threshold

CASES = [(grid, None, 1) for grid in GRIDS] + [
    ((4, 4, 4), None, 0), ((9, 4, 4), None, 0), ((11, 5, 5), None, 0), ((7, 6, 3), None, 0), ((8, 3, 6), None, 0),
    ((5, 8, 8), 3, 0), ((5, 8, 8), 5, 1), ((6, 7, 9), 4, 2), ((15, 7, 7), None, 1),
]  # fmt: skip


@pytest.mark.parametrize(("grid", "snippet", "root_level"), CASES, ids=str)
def test_equals_recursion(grid: tuple, snippet: int | None, root_level: int) -> None:
    video = video_of("smooth", grid, sum(grid))
    roots = naive_octree.forest(video, snippet, root_level)
    inner = np.array(naive_octree.all_likeness(roots))
    for quantile in (0.1, 0.5, 0.8):
        tau = safe_threshold(inner, min(0.999, np.quantile(inner, quantile)) if inner.size else 0.5)
        method = make_method("octree", tau=tau, snippet=snippet, root_level=root_level)
        assert_same(method.plan(torch.from_numpy(video)), naive_octree.octree(roots, tau), video)


@pytest.mark.parametrize(("grid", "snippet", "root_level"), CASES, ids=str)
def test_a_budget_is_the_nearest_that_any_threshold_reaches(grid: tuple, snippet: int | None, root_level: int) -> None:
    video = video_of("smooth", grid, sum(grid))
    tokens = torch.from_numpy(video)
    roots = naive_octree.forest(video, snippet, root_level)
    inner = np.unique(np.round(naive_octree.all_likeness(roots), 6))
    counts = [len(naive_octree.octree(roots, tau).places) for tau in [*(inner - 3e-6), 1.5]]
    method = make_method("octree", snippet=snippet, root_level=root_level)
    tables = method.tables(tokens)
    for retention in BUDGETS:
        plan = method.for_retention(tokens, retention).plan(tokens, tables)
        allowed = math.floor(retention * math.prod(grid) + 1e-9)
        assert plan.num_tokens == max((n for n in counts if n <= allowed), default=min(counts))
        again = make_method("octree", tau=plan.method.tau, snippet=snippet, root_level=root_level).plan(tokens)
        assert again.places.equal(plan.places), "the plan names the threshold that made it"


def test_a_still_video_becomes_its_root_nodes() -> None:
    tokens = torch.ones(28, 14, 14, 3)
    plan = make_method("octree", tau=0.99).plan(tokens)
    assert plan.num_tokens == 2 * 4**3
    assert plan.patch_counts.max() == 4**3
    left_over = make_method("octree", tau=0.99).plan(torch.ones(15, 14, 14, 3))
    assert left_over.tokens_per_frame.tolist()[14] == 4**2


BAD_KNOBS = [
    {"tau": 2.5}, {"tau": "high"}, {"tau": float("nan")}, {"snippet": 1.5}, {"snippet": 0}, {"root_level": -1},
]  # fmt: skip


@pytest.mark.parametrize("knobs", BAD_KNOBS, ids=str)
def test_bad_knobs_are_refused(knobs: dict) -> None:
    with pytest.raises(ValueError, match=r"must .*got .*\.$"):
        make_method("octree", **knobs)
