"""From tokens and a plan to merged tokens, and the whole method in one call."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import torch

from . import dispatch
from .plan import MergePlan, NotFiniteError, build_plan, check_rules, check_threshold
from .quadtree import lookup, shared_tree, tree_tensor
from .similarity import check_tokens, not_finite_message, unchecked_tables


@dataclass(frozen=True, eq=False)
class MergedTokens:
    """``tokens [N, C]`` in the dtype and on the device of the input, and the plan that says what each stands for."""

    tokens: torch.Tensor
    plan: MergePlan

    @property
    def boxes(self) -> torch.Tensor:
        """``[N, 5]`` int64: ``t, y0, x0, y1, x1`` in patches, half open, scan order."""
        return self.plan.boxes

    @property
    def patch_counts(self) -> torch.Tensor:
        """``[N]`` int64, sums to ``T*H*W``."""
        return self.plan.patch_counts

    @property
    def retention(self) -> float:
        """``N / (T*H*W)``."""
        return self.plan.retention

    def __repr__(self) -> str:
        return f"MergedTokens({list(self.tokens.shape)} {self.tokens.dtype}, {self.plan!r})"


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
        rules: ``"paper"``, or ``"as_released"`` for the authors' published code with its two deviations.
        weighting: ``"nodes"`` averages children and members alike, ``"patches"`` by the patches that they cover.

    Raises:
        ValueError: for a wrong rank, dtype or size, NaN or infinite values, bad thresholds or unknown options.
    """
    check_tokens(tokens, None)
    for name, tau in (("tau_spatial", tau_spatial), ("tau_temporal", tau_temporal)):
        check_threshold(name, tau)
    check_rules(rules)
    tree = shared_tree(*tokens.shape[1:3], root_level)
    tables, not_finite = unchecked_tables(tokens, tree, weighting, released=rules == "as_released")
    try:
        plan = build_plan(tables, tau_spatial, tau_temporal, rules, not_finite)
    except NotFiniteError:
        raise ValueError(not_finite_message(tokens)) from None
    return plan.apply(tokens)


def apply_plan(plan: MergePlan, tokens: torch.Tensor) -> MergedTokens:
    """Average the features of each token's members; see `MergePlan.apply`."""
    shape = (plan.num_frames, plan.tree.height, plan.tree.width)
    if tokens.ndim != 4 or tuple(tokens.shape[:3]) != shape:
        raise ValueError(f"the plan is for {list(shape)} tokens [T, H, W], got tokens of shape {list(tokens.shape)}.")
    if plan.member_of.device != tokens.device:
        plan = plan.to(tokens.device)
    flat = tokens.reshape(plan.num_patches, tokens.shape[-1])
    if kernels := dispatch.kernels_for(flat):
        with torch.cuda.device_of(flat):
            return MergedTokens(kernels.pool_members(flat.contiguous(), *sorted_members(kernels, plan)), plan)
    token, weights = plan.member_of.reshape(-1), member_weights(plan)
    return MergedTokens(pool_members(flat, token, weights, plan.num_tokens), plan)


def sorted_members(kernels: ModuleType, plan: MergePlan) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Order, weights and starts of the tokens' members, see `kernels.sort_members`."""
    tree, device = plan.tree, plan.member_of.device
    by_level = tree_tensor(tree, "node_weights", device) if plan.weighting == "nodes" else None
    return kernels.sort_members(
        plan.member_of.view(-1), plan.node_of_patch.view(-1), plan.node_ids, tree_tensor(tree, "levels", device),
        by_level, plan.num_tokens,
    )  # fmt: skip


def pool_members(patches: torch.Tensor, token: torch.Tensor, weights: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """Weighted sums in at least float32: ``[P, C]`` into ``[num_tokens, C]``, cast back to the dtype of ``patches``."""
    wide = torch.promote_types(patches.dtype, torch.float32)
    pooled = torch.zeros(num_tokens, patches.shape[1], device=patches.device, dtype=wide)
    pooled.index_add_(0, token, patches.to(wide) * weights[:, None])
    return pooled.to(patches.dtype)


def member_weights(plan: MergePlan) -> torch.Tensor:
    """``[T*H*W]`` float32: weight of each patch in the mean that its token is (algorithm, section 3)."""
    device = plan.member_of.device
    token = plan.member_of.reshape(-1)
    if plan.weighting == "patches":
        return 1.0 / lookup(plan.patch_counts, token).float()
    node = plan.node_of_patch.reshape(plan.num_frames, -1)  # [T, H*W]
    levels = lookup(lookup(tree_tensor(plan.tree, "levels", device), plan.node_ids), node)
    patches = torch.arange(plan.tree.num_patches, device=device)
    by_level = tree_tensor(plan.tree, "node_weights", device)  # [levels, H*W]
    return lookup(by_level, levels * plan.tree.num_patches + patches).view(-1) / lookup(plan.member_counts, token)
