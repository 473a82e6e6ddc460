"""What a budget led to, in words: the thresholds found, and whether a stage does nothing at them."""

from __future__ import annotations

from sttm_core import MergePlan
from sttm_core.comparison import IDLE


def budget_words(plan: MergePlan, budget: float) -> str:
    """One line with the thresholds, and a sentence for what a person would not expect of them.

    Args:
        plan: what is merged at the thresholds that were found.
        budget: the share of tokens that was asked for.
    """
    found = f"Found τ_S {_threshold(plan.tau_spatial)}, τ_T {_threshold(plan.tau_temporal)}: {plan.retention:.1%} kept."
    words = [found]
    if plan.retention > budget:
        words.append(f"This video can't go below {plan.retention:.1%}.")
    if plan.idle_stage and (plan.idle_stage == "spatial" or plan.num_frames > 1):  # one frame has no time
        words.append(IDLE[plan.idle_stage])
    return " ".join(words)


def _threshold(value: float) -> str:
    """Five digits: 0.99996 is not 1."""
    return f"{value:.5f}".rstrip("0").rstrip(".")
