"""What a budget led to, in words: the thresholds found, and whether a stage does nothing at them."""

from __future__ import annotations

from sttm_core import MergePlan
from sttm_core.comparison import IDLE, ROUNDING
from sttm_core.method import Method, Plan


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


def plan_words(plan: Plan, budget: float) -> str:
    """One line about a plan of any method, and a sentence if it keeps more than was asked for.

    Args:
        plan: what is left.
        budget: the share of tokens that was asked for, of kept ones.
    """
    merged = int((plan.patch_counts > 1).sum())
    words = [f"{plan.num_tokens:,} of {plan.num_patches:,} tokens kept, {plan.retention:.1%}."]
    if merged:
        words.append(f"{merged:,} of them stand for several patches.")
    if plan.num_dropped:
        words.append(f"{plan.num_dropped:,} patches are dropped.")
    if plan.retention > budget + ROUNDING:
        words.append(f"{plan.method.title} can't go below {plan.retention:.1%} on this video.")
    return " ".join(words)


def waiting_words(method: Method) -> str:
    """Why a method has no picture yet."""
    if method.query_aware:
        return f"{method.title} reads the question: its picture comes with the answer."
    return f"{method.title} acts before the vision encoder: its picture comes with the answer."
