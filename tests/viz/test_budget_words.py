"""What is said about a budget: its thresholds, and a stage that does nothing at them."""

from __future__ import annotations

import pytest
import torch

from sttm_core import Quadtree, similarity_tables
from viz.budget_words import budget_words

NOTHING_IN_SPACE, NOTHING_IN_TIME = "Nothing merges in space", "Nothing merges through time"


def tables(frames: int = 3):
    """Four patches that are alike in a frame, and frames that are alike where ``frames`` are several."""
    tokens = torch.randn(frames, 4, 4, 16, generator=torch.Generator().manual_seed(0)) * 0.2 + 1
    return similarity_tables(tokens, Quadtree(4, 4, 0))


@pytest.mark.parametrize(
    ("tau_s", "tau_t", "said"),
    [
        (1.5, 0.1, [NOTHING_IN_SPACE]),
        (0.1, 1.5, [NOTHING_IN_TIME]),
        (0.1, 0.0, [NOTHING_IN_TIME]),  # zero switches linking off
        (0.1, 0.1, []),
        (1.5, 1.5, []),  # nothing merges at all: the share kept says it
    ],
)
def test_a_stage_that_does_nothing_is_said(tau_s, tau_t, said):
    plan = tables().plan(tau_s, tau_t)
    words = budget_words(plan, 1.0)
    assert [sentence for sentence in (NOTHING_IN_SPACE, NOTHING_IN_TIME) if sentence in words] == said
    assert words.startswith("Found τ_S ") and f"{plan.retention:.1%} kept." in words and words.endswith(".")


def test_one_frame_has_no_time():
    assert NOTHING_IN_TIME not in budget_words(tables(1).plan(0.1, 0.5), 1.0)


@pytest.mark.parametrize(("value", "written"), [(0.99996, "0.99996"), (1.0, "1"), (0.5, "0.5"), (0.876543, "0.87654")])
def test_a_threshold_near_one_is_not_one(value, written):
    assert f"τ_S {written}, τ_T {written}:" in budget_words(tables().plan(value, value), 1.0)


def test_a_budget_out_of_reach_is_said():
    plan = tables().plan(0.1, 0.1)
    assert f"This video can't go below {plan.retention:.1%}." in budget_words(plan, plan.retention / 2)
    assert "can't" not in budget_words(plan, plan.retention)
