"""Thresholds to decisions: which nodes are kept, which are linked, which chains they form. Never any features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from .components import released_labels, smallest_labels
from .quadtree import Quadtree, lookup, take_columns, tree_tensor

if TYPE_CHECKING:
    from .merge import MergedTokens
    from .similarity import SimilarityTables

RULES = ("paper", "as_released")


@dataclass(frozen=True, eq=False)
class MergePlan:
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
    num_frames: int
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

    @property
    def num_tokens(self) -> int:
        return len(self.boxes)

    @property
    def num_patches(self) -> int:
        """Tokens before merging: ``T*H*W``."""
        return self.num_frames * self.tree.num_patches

    @property
    def retention(self) -> float:
        """Share of tokens left after both stages, ``N / (T*H*W)``."""
        return self.num_tokens / self.num_patches

    @cached_property
    def tokens_per_frame(self) -> torch.Tensor:
        """``[T]`` int64: tokens whose representative lies in each frame; they sum to N."""
        return torch.bincount(self.boxes[:, 0], minlength=self.num_frames)

    @cached_property
    def member_counts(self) -> torch.Tensor:
        """``[N]`` int64: kept nodes merged into each token; above 1 it is a chain."""
        return torch.bincount(self.node_tokens, minlength=self.num_tokens)

    @property
    def num_chains(self) -> int:
        """Tokens that join two or more nodes through time."""
        return int((self.member_counts > 1).sum())

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

    def to(self, device: torch.device | str) -> MergePlan:
        """The same plan with its arrays on another device."""
        return MergePlan(*(v.to(device) if isinstance(v, torch.Tensor) else v for v in self._fields()))

    def apply(self, tokens: torch.Tensor) -> MergedTokens:
        """Average the members' features: ``[T, H, W, C]`` -> ``[N, C]`` in the dtype and on the device of ``tokens``.

        Raises:
            ValueError: if ``tokens`` do not have this plan's ``T x H x W``.
        """
        from .merge import apply_plan  # merge builds on plans, not the other way round

        return apply_plan(self, tokens)

    def _fields(self) -> list:
        return [getattr(self, name) for name in self.__dataclass_fields__]

    def __repr__(self) -> str:
        return (
            f"MergePlan({self.num_tokens} of {self.num_patches} tokens, {self.retention:.1%} kept at "
            f"tau_S={self.tau_spatial:g}, tau_T={self.tau_temporal:g}, rules={self.rules!r})"
        )


def build_plan(tables: SimilarityTables, tau_spatial: float, tau_temporal: float, rules: str) -> MergePlan:
    """The plan at these thresholds; comparisons are made in float32, as everywhere (see `SimilarityTables.plan`)."""
    tau_s, tau_t = check_threshold("tau_spatial", tau_spatial), check_threshold("tau_temporal", tau_temporal)
    check_rules(rules)
    tree, device = tables.tree, tables.device
    kept = keep_nodes(tables, tau_s, rules)
    node_frames, top_patches = kept.is_top.nonzero(as_tuple=True)  # scan order
    links, cosines = find_links(tables, kept, tau_t)
    labels = (smallest_labels if rules == "paper" else released_labels)(links[:, 0], links[:, 1], len(node_frames))
    first = labels == torch.arange(len(labels), device=device)  # representatives, in scan order
    node_tokens = lookup(torch.cumsum(first, 0) - 1, labels)
    node_ids = lookup(kept.nodes, node_frames * tree.num_patches + top_patches)
    member_of = lookup(node_tokens, kept.rank)
    node_boxes = tree_tensor(tree, "boxes", device).index_select(0, node_ids)
    boxes = torch.cat([node_frames[:, None], node_boxes], dim=1)[first]
    grid = (tables.num_frames, tree.height, tree.width)
    return MergePlan(
        tree, tables.num_frames, float(tau_spatial), float(tau_temporal), rules, tables.weighting,
        node_frames, node_ids, node_tokens, links, cosines,
        boxes, torch.bincount(member_of.reshape(-1), minlength=len(boxes)),
        kept.rank.view(grid), member_of.view(grid),
    )  # fmt: skip


def check_rules(rules: str) -> None:
    """ValueError unless ``rules`` are known."""
    if rules not in RULES:
        raise ValueError(f"rules must be one of {', '.join(RULES)}, got {rules!r}.")


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


def keep_nodes(tables: SimilarityTables, tau_s: float, rules: str) -> KeptNodes:
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


def find_links(tables: SimilarityTables, kept: KeptNodes, tau_t: float) -> tuple[torch.Tensor, torch.Tensor]:
    """``[K, 2]`` kept nodes and ``[K]`` cosines of the linked pairs (paper section 3.2).

    Of two kept nodes that share a patch the finer one lies inside the other, so its top-left patch names the pair once.
    """
    if tau_t <= 0:
        return kept.rank.new_empty(0, 2), tables.pair_cosines.new_empty(0)
    earlier, later = kept.levels[:-1], kept.levels[1:]
    names_pair = ((earlier <= later) & kept.is_top[:-1]) | ((earlier > later) & kept.is_top[1:])  # [T-1, H*W]
    patches = torch.arange(tables.tree.num_patches, device=tables.device)
    place = (earlier * tables.tree.num_levels + later) * tables.tree.num_patches + patches
    cosines = tables.pair_cosines.gather(1, lookup(tree_tensor(tables.tree, "pair_index", tables.device), place))
    first = (names_pair & (cosines >= tau_t)).view(-1).nonzero().squeeze(1)  # patch of the video, in the earlier frame
    rank = kept.rank.view(-1)
    ends = [lookup(rank, first), lookup(rank, first + tables.tree.num_patches)]
    return torch.stack(ends, dim=1), lookup(cosines, first)
