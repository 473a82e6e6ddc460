"""The whole method in one call: tokens in, merged tokens and their plan out."""

from __future__ import annotations

import torch

from ...method import MergedTokens, not_finite_message
from .plan import MergePlan, NotFiniteError, build_plan, check_rules, check_threshold
from .quadtree import shared_tree
from .similarity import check_tokens, unchecked_tables


def merge_tokens(
    tokens: torch.Tensor,
    tau_spatial: float,
    tau_temporal: float,
    *,
    root_level: int = 1,
    rules: str = "paper",
    weighting: str = "nodes",
) -> MergedTokens:
    """Merge video tokens by a quadtree in space and by chains through time (paper section 3, arXiv 2507.07990).

    Args:
        tokens: ``[T, H, W, C]``, any float dtype, CPU or CUDA: hidden states of the video tokens before a layer.
        tau_spatial: tau_S, cosine to all of its children that a quadtree node needs to stay one token.
        tau_temporal: tau_T, cosine that links overlapping nodes of consecutive frames; <= 0 switches linking off.
        root_level: how many of the coarsest grids are not used (1 in all published runs).
        rules: ``"paper"``; ``"as_released"`` for the authors' published code with its two deviations; ``"bottom_up"``,
            ours, keeps a node only if the nodes below it could be kept too.
        weighting: ``"nodes"`` averages children and members alike, ``"patches"`` by the patches that they cover.

    Raises:
        ValueError: for a wrong rank, dtype or size, NaN or infinite values, bad thresholds or unknown options.
    """
    how = {"root_level": root_level, "rules": rules, "weighting": weighting}
    return plan_of(tokens, tau_spatial, tau_temporal, **how).apply(tokens)


def plan_of(
    tokens: torch.Tensor, tau_spatial: float, tau_temporal: float, *, root_level: int, rules: str, weighting: str
) -> MergePlan:
    """The plan of `merge_tokens`: cosines from the features, then decisions. On a GPU the host waits once."""
    check_tokens(tokens, None)
    for name, tau in (("tau_spatial", tau_spatial), ("tau_temporal", tau_temporal)):
        check_threshold(name, tau)
    check_rules(rules)
    tree = shared_tree(*tokens.shape[1:3], root_level)
    tables, not_finite = unchecked_tables(tokens, tree, weighting, released=rules == "as_released")
    try:
        return build_plan(tables, tau_spatial, tau_temporal, rules, not_finite)
    except NotFiniteError:
        raise ValueError(not_finite_message(tokens)) from None

