"""The miss of a budget is counted in points, from plans that were really made."""

from __future__ import annotations

import torch

from benchmarks.budget import BUDGETS, milliseconds, misses
from sttm_core import similarity_tables, thresholds_for_retention


def test_misses_are_what_real_plans_keep() -> None:
    tokens = torch.randn(4, 8, 8, 16, generator=torch.Generator().manual_seed(0)) + 1
    tables = similarity_tables(tokens)
    found = misses(tables, "paper")
    assert len(found) == len(BUDGETS) and max(found) > 0
    for budget, miss in zip(BUDGETS, found, strict=True):
        taus = thresholds_for_retention(tables, float(budget))
        kept = tables.plan(taus.tau_spatial, taus.tau_temporal).retention
        assert abs(100 * (budget - kept) - miss) < 1e-9


def test_the_first_run_is_not_counted() -> None:
    calls = []
    taken = milliseconds(lambda: calls.append(1), 4)
    assert len(calls) == 5 and taken["lowest_ms"] <= taken["median_ms"] <= taken["highest_ms"]
