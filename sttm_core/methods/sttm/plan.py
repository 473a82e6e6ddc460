"""Thresholds to decisions: which nodes are kept, which are linked, which chains they form. Never any features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Protocol

import numpy as np
import torch

from ...method import RULES as PUBLISHED_RULES
from ...method import MergedTokens, Method, Plan, count_values, make_method, pool_members
from ...method import check_rules as check_known_rules
from . import dispatch
from .components import released_labels, smallest_labels
from .quadtree import Quadtree, lookup, take_columns, tree_tensor

BOTTOM_UP = "bottom_up"  # ours: a node stays whole only if all nodes below it would
RULES = (*PUBLISHED_RULES, BOTTOM_UP)


class Cosines(Protocol):
    """What a plan is made from; `similarity.SimilarityTables` are."""

    tree: Quadtree
    pair_cosines: torch.Tensor
    weighting: str

    @property
    def num_frames(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def split_minima(self, rules: str) -> torch.Tensor: ...


@dataclass(frozen=True, eq=False)
class MergePlan(Plan):
    """What is merged at one pair of thresholds; M nodes kept by the spatial stage become N tokens.

    Attributes:
        node_frames, node_ids, node_tokens: ``[M]`` int64, frame, quadtree node and output token of each kept node, in
            scan order (frame, then top-left patch).
        links: ``[K, 2]`` int64, kept nodes (earlier, later) that were linked; ``link_cosines``: ``[K]`` float32.
        boxes: ``[N, 5]`` int64, ``t, y0, x0, y1, x1`` of each token's representative, half open, scan order.
        patch_counts: ``[N]`` int64, patches merged into each token; they sum to ``T*H*W``.
        node_of_patch: ``[T, H, W]`` int64, the kept node (0..M-1) that covers each patch.
        member_of: ``[T, H, W]`` int64, the output token that each patch went into.
    """

    tree: Quadtree
    tau_spatial: float
    tau_temporal: float
    rules: str
    weighting: str
    node_frames: torch.Tensor
    node_ids: torch.Tensor
    node_tokens: torch.Tensor
    links: torch.Tensor
    link_cosines: torch.Tensor
    boxes: torch.Tensor
    patch_counts: torch.Tensor
    node_of_patch: torch.Tensor
    member_of: torch.Tensor

    @cached_property
    def method(self) -> Method:
        """STTM at these thresholds."""
        how = {"root_level": self.tree.root_level, "rules": self.rules, "weighting": self.weighting}
        return make_method("sttm", tau_spatial=self.tau_spatial, tau_temporal=self.tau_temporal, **how)

    @property
    def num_tokens(self) -> int:
        return len(self.boxes)

    @cached_property
    def places(self) -> torch.Tensor:
        """``[N]`` int64: flat index of the top-left patch of each token's representative, ascending."""
        t, y, x = self.boxes[:, :3].unbind(1)
        return t * self.tree.num_patches + y * self.tree.width + x

    @cached_property
    def weights(self) -> torch.Tensor | None:
        """``[T, H, W]`` float32: weight of each patch in the mean that its token is (algorithm, section 3)."""
        if self.weighting == "patches":
            return None  # the plain mean
        device, token = self.member_of.device, self.member_of.reshape(-1)
        node = self.node_of_patch.reshape(self.num_frames, -1)  # [T, H*W]
        levels = lookup(lookup(tree_tensor(self.tree, "levels", device), self.node_ids), node)
        patches = torch.arange(self.tree.num_patches, device=device)
        by_level = tree_tensor(self.tree, "node_weights", device)  # [levels, H*W]
        of_node = lookup(by_level, levels * self.tree.num_patches + patches).view(-1)
        return (of_node / lookup(self.member_counts, token)).view(self.grid)

    @property
    def num_dropped(self) -> int:
        return 0

    @cached_property
    def member_counts(self) -> torch.Tensor:
        """``[N]`` int64: kept nodes merged into each token; above 1 it is a chain."""
        return count_values(self.node_tokens, self.num_tokens)

    @property
    def idle_stage(self) -> str:
        """``"spatial"`` or ``"temporal"`` where that stage merges nothing and the other one does, else empty."""
        return idle_stage(len(self.node_ids) / self.num_patches, self.retention)

    @property
    def num_chains(self) -> int:
        """Tokens that join two or more nodes through time."""
        return int((self.member_counts > 1).sum())

    @property
    def details(self) -> dict:
        """Count of the merge chains, frames that the longest spans, and which stage merges nothing."""
        chains = {"count": self.num_chains, "longest": self.longest_chain}
        return {"chains": chains, "idle_stage": self.idle_stage}

    @property
    def longest_chain(self) -> int:
        """Frames spanned by the chain that spans most (1 without any link)."""
        return int(self.frame_spans.max())

    @cached_property
    def frame_spans(self) -> torch.Tensor:
        """``[N]`` int64: number of frames from each token's first member to its last."""
        last = self.boxes[:, 0].scatter_reduce(0, self.node_tokens, self.node_frames, "amax")
        return last - self.boxes[:, 0] + 1

    @cached_property
    def node_boxes(self) -> torch.Tensor:
        """``[M, 5]`` int64: ``t, y0, x0, y1, x1`` of each node kept by the spatial stage."""
        boxes = tree_tensor(self.tree, "boxes", self.node_ids.device)[self.node_ids]
        return torch.cat([self.node_frames[:, None], boxes], dim=1)

    def members(self, token: int) -> torch.Tensor:
        """``[members, 5]`` boxes (t, y0, x0, y1, x1) of every kept node merged into ``token``, in scan order."""
        return self.node_boxes[self.node_tokens == token]

    def apply(self, tokens: torch.Tensor) -> MergedTokens:
        """Average the members' features: ``[T, H, W, C]`` -> ``[N, C]`` in the dtype and on the device of ``tokens``.

        Raises:
            ValueError: if ``tokens`` do not have this plan's ``T x H x W``.
        """
        self.check_shape(tokens)
        plan = self if self.member_of.device == tokens.device else self.to(tokens.device)
        flat = tokens.reshape(plan.num_patches, tokens.shape[-1])
        if kernels := dispatch.kernels_for(flat):
            with torch.cuda.device_of(flat):
                return MergedTokens(kernels.pool_members(flat.contiguous(), *sorted_members(kernels, plan)), plan)
        return MergedTokens(pool_members(flat, plan.member_of.reshape(-1), plan.share, plan.num_tokens), plan)

    def __repr__(self) -> str:
        return (
            f"MergePlan({self.num_tokens} of {self.num_patches} tokens, {self.retention:.1%} kept at "
            f"tau_S={self.tau_spatial:g}, tau_T={self.tau_temporal:g}, rules={self.rules!r})"
        )


def sorted_members(kernels: ModuleType, plan: MergePlan) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Order, weights and starts of the tokens' members, see `kernels.sort_members`."""
    tree, device = plan.tree, plan.member_of.device
    by_level = tree_tensor(tree, "node_weights", device) if plan.weighting == "nodes" else None
    return kernels.sort_members(
        plan.member_of.view(-1), plan.node_of_patch.view(-1), plan.node_ids, tree_tensor(tree, "levels", device),
        by_level, plan.num_tokens,
    )  # fmt: skip


class NotFiniteError(ValueError):
    """Features with NaN or infinite values, or so large that their squares overflow."""


def build_plan(
    tables: Cosines, tau_spatial: float, tau_temporal: float, rules: str,
    not_finite: torch.Tensor | None = None,
) -> MergePlan:  # fmt: skip
    """The plan at these thresholds; comparisons are made in float32, as everywhere (see `SimilarityTables.plan`).

    With Triton the host waits once, for the numbers of nodes, links and tokens. (The loop of ``rules="as_released"``
    waits once more in each of its rounds.)

    Args:
        not_finite: of `similarity.unchecked_tables`, where nobody has looked at it yet.

    Raises:
        NotFiniteError: if ``not_finite`` holds.
    """
    tau_s, tau_t = check_threshold("tau_spatial", tau_spatial), check_threshold("tau_temporal", tau_temporal)
    check_rules(rules)
    minima = tables.split_minima(rules)
    if dispatch.kernels_for(minima):
        from .kernels_plan import plan_arrays  # needs Triton

        with torch.cuda.device_of(minima):
            arrays = plan_arrays(tables.tree, minima, tables.pair_cosines, tau_s, tau_t, rules, not_finite)
    else:
        broken = not_finite is not None and bool(not_finite.item())
        arrays = None if broken else _plan_arrays(tables, tau_s, tau_t, rules)
    if arrays is None:
        raise NotFiniteError("the features are not finite.")
    taus = float(tau_spatial), float(tau_temporal)
    return MergePlan(tables.tree, *taus, rules, tables.weighting, *arrays)


def _plan_arrays(tables: Cosines, tau_s: float, tau_t: float, rules: str) -> tuple[torch.Tensor, ...]:
    """The arrays of a `MergePlan`, in its order."""
    tree, device = tables.tree, tables.device
    kept = keep_nodes(tables, tau_s, rules)
    linked, cosines = mark_links(tables, kept, tau_t)
    num_nodes, num_links = torch.stack([kept.is_top.sum(), linked.sum()]).tolist()
    tops, links_at = indices_where(kept.is_top, num_nodes), indices_where(linked, num_links)  # scan order
    links = link_ends(kept, links_at)
    node_frames, node_ids = tops // tree.num_patches, lookup(kept.nodes, tops)
    labels = (released_labels if rules == "as_released" else smallest_labels)(links[:, 0], links[:, 1], num_nodes)
    first = labels == torch.arange(len(labels), device=device)  # representatives, in scan order
    node_tokens = lookup(torch.cumsum(first, 0) - 1, labels)
    member_of = lookup(node_tokens, kept.rank)
    node_boxes = tree_tensor(tree, "boxes", device).index_select(0, node_ids)
    leaders = indices_where(first, int(first.sum()))
    boxes = torch.cat([node_frames[:, None], node_boxes], dim=1).index_select(0, leaders)
    grid = (tables.num_frames, tree.height, tree.width)
    return (
        node_frames, node_ids, node_tokens, links, lookup(cosines, links_at),
        boxes, count_values(member_of, len(boxes)), kept.rank.view(grid), member_of.view(grid),
    )  # fmt: skip


def idle_stage(after_space: float, after_time: float) -> str:
    """Which stage merges nothing, from the shares of tokens left after each; empty where both do, or neither."""
    idle = {"spatial": after_space == 1, "temporal": after_time == after_space}
    return next((name for name, nothing in idle.items() if nothing), "") if after_time < 1 else ""


def check_rules(rules: str) -> None:
    """ValueError unless ``rules`` are known."""
    check_known_rules(rules, RULES)


def check_threshold(name: str, value: float) -> float:
    """``value`` rounded to float32, in which all comparisons are made; ValueError unless it is a finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {value!r}.")
    return float(np.float32(number))


@dataclass(frozen=True, eq=False)
class KeptNodes:
    """What the spatial stage keeps, patch by patch.

    Attributes:
        levels: ``[T, H*W]`` level of the kept node over each patch; ``nodes``: its number in the quadtree.
        is_top: ``[T, H*W]`` bool, whether the patch is the top-left one of that node: one for each kept node.
        rank: ``[T, H*W]`` index of that node among all kept nodes of the video, in scan order.
    """

    levels: torch.Tensor
    nodes: torch.Tensor
    is_top: torch.Tensor
    rank: torch.Tensor


def keep_nodes(tables: Cosines, tau_s: float, rules: str) -> KeptNodes:
    """The spatial stage (paper section 3.1)."""
    tree, device = tables.tree, tables.device
    levels = kept_levels(tables.split_minima(rules) < tau_s, tree)  # [T, H*W]
    patches = torch.arange(tree.num_patches, device=device)
    nodes = lookup(tree_tensor(tree, "ancestors", device), levels * tree.num_patches + patches)
    tops = lookup(tree_tensor(tree, "top_left", device), nodes)
    is_top = tops == patches
    order = torch.cumsum(is_top.view(-1), 0).sub_(1)  # index of the kept node at each top-left patch
    return KeptNodes(levels, nodes, is_top, order.view_as(tops).gather(1, tops))


def kept_levels(split: torch.Tensor, tree: Quadtree) -> torch.Tensor:
    """``[T, H*W]``: level of the node over each patch, from ``split [T, internal nodes]`` (paper section 3.1)."""
    ancestors, parents = (tree_tensor(tree, name, split.device) for name in ("ancestors", "parents"))
    levels = ancestors.new_full((len(split), tree.num_patches), tree.num_levels - 1)
    opened: torch.Tensor | None = None  # [T, nodes of the level above]: reached from the root grid and split
    for level in range(tree.num_levels - 1, 0, -1):
        start, end = tree.level_offsets[level : level + 2]
        here = split[:, start - tree.num_patches : end - tree.num_patches]
        if opened is not None:
            here = here & take_columns(opened, parents[start:end] - end)
        levels -= take_columns(here, ancestors[level] - start).long()
        opened = here
    return levels


def mark_links(tables: Cosines, kept: KeptNodes, tau_t: float) -> tuple[torch.Tensor, torch.Tensor]:
    """``[T-1, H*W]`` bool, whether the patch names a linked pair, and the cosines of all pairs (paper section 3.2).

    Of two kept nodes that share a patch the finer one lies inside the other, so its top-left patch names the pair once.
    """
    tree, device = tables.tree, tables.device
    earlier, later = kept.levels[:-1], kept.levels[1:]
    names_pair = ((earlier <= later) & kept.is_top[:-1]) | ((earlier > later) & kept.is_top[1:])
    place = (earlier * tree.num_levels + later) * tree.num_patches + torch.arange(tree.num_patches, device=device)
    cosines = tables.pair_cosines.gather(1, lookup(tree_tensor(tree, "pair_index", device), place))
    return names_pair & (cosines >= tau_t) & (tau_t > 0), cosines


def link_ends(kept: KeptNodes, links_at: torch.Tensor) -> torch.Tensor:
    """``[K, 2]`` kept nodes (earlier, later) of the links named by these patches of the video, in the earlier frame."""
    return torch.stack([lookup(kept.rank, links_at), lookup(kept.rank, links_at + kept.rank.shape[1])], dim=1)


def indices_where(mask: torch.Tensor, count: int) -> torch.Tensor:
    """``[count]`` int64: where the flattened mask holds, without asking a GPU how often it does."""
    return torch.nonzero_static(mask.view(-1), size=count).squeeze(1)

