"""Every cosine that the method can ever ask for, from small Gram matrices (algorithm, section 5).

A node's feature is a fixed weighted sum ``v_a = w_a^T X`` of the patches of its cell, so all dot products between nodes
of a cell follow from the Gram matrix of its patches, within a frame and between consecutive frames. One pass over the
features makes the tables; thresholds, plans and budgets then work on the tables alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from ... import method
from ...method import not_finite_message
from . import dispatch
from .plan import BOTTOM_UP, MergePlan, build_plan
from .quadtree import Quadtree, shared_tree, take_columns, tree_tensor

WEIGHTINGS = ("nodes", "patches")
CHUNK_BYTES = 4 * 2**20  # float32 features worked on at a time on a CPU: near its caches
FLOAT_BYTES = 4
DEVICE_CHUNKS = 64  # times that on other devices, where a chunk should fill the machine


@dataclass(frozen=True, eq=False)
class SimilarityTables:
    """Cosines of one video's tokens; everything that a plan is made from.

    Attributes:
        tree: the grid they belong to.
        child_min: ``[T, internal nodes]`` float32, the lowest cosine of a node with its children.
        child_min_released: the same under ``rules="as_released"``: border nodes are compared once more.
        pair_cosines: ``[T-1, pairs]`` float32, cosine of ``tree.pairs`` between frame t and t+1.
        weighting: ``"nodes"`` or ``"patches"``, how node features are averaged.
    """

    tree: Quadtree
    child_min: torch.Tensor
    child_min_released: torch.Tensor
    pair_cosines: torch.Tensor
    weighting: str = "nodes"

    @property
    def num_frames(self) -> int:
        return self.child_min.shape[0]

    @property
    def num_patches(self) -> int:
        """Tokens before merging: ``T*H*W``."""
        return self.num_frames * self.tree.num_patches

    @property
    def device(self) -> torch.device:
        return self.child_min.device

    @property
    def nbytes(self) -> int:
        own = 0 if self.child_min_released is self.child_min else self.child_min_released.nbytes
        return self.child_min.nbytes + own + self.pair_cosines.nbytes

    def to(self, device: torch.device | str) -> SimilarityTables:
        """The same tables on another device."""
        return replace(
            self,
            child_min=self.child_min.to(device),
            child_min_released=self.child_min_released.to(device),
            pair_cosines=self.pair_cosines.to(device),
        )

    def split_minima(self, rules: str) -> torch.Tensor:
        """``[T, internal nodes]``: a node stays whole where this is >= tau_S."""
        if rules == BOTTOM_UP:
            return lowest_below(self.child_min, self.tree)
        return self.child_min_released if rules == "as_released" else self.child_min

    def plan(self, tau_spatial: float, tau_temporal: float, rules: str = "paper") -> MergePlan:
        """Decide what is merged at these thresholds. Never touches features (paper sections 3.1 and 3.2).

        Args:
            tau_spatial: tau_S; a node whose cosine to every child is at least this stays a token. Above 1: no merging.
            tau_temporal: tau_T; overlapping nodes of consecutive frames at least this similar are linked; <= 0: off.
            rules: ``"paper"``, ``"as_released"`` (the authors' published code with its two deviations), or
                ``"bottom_up"`` (ours: a node is kept only if the nodes below it could be kept too).

        Raises:
            ValueError: for a threshold that is not a finite number, or unknown rules.
        """
        return build_plan(self, tau_spatial, tau_temporal, rules)

    def __repr__(self) -> str:
        height, width = self.tree.height, self.tree.width
        size = f"{self.nbytes / 2**20:.2f} MiB"
        return f"SimilarityTables({self.num_frames} frames of {height}x{width}, {size}, {self.device})"


def lowest_below(minima: torch.Tensor, tree: Quadtree) -> torch.Tensor:
    """``[T, internal nodes]``: the lowest of a node's minimum and those of all internal nodes below it."""
    lowest, parents = minima, tree_tensor(tree, "parents", minima.device)
    for level in range(1, tree.num_levels - 1):
        start, end = tree.level_offsets[level : level + 2]
        above = (parents[start:end] - tree.num_patches).expand(len(minima), -1)
        lowest = lowest.scatter_reduce(1, above, lowest[:, start - tree.num_patches : end - tree.num_patches], "amin")
    return lowest


def similarity_tables(
    tokens: torch.Tensor, tree: Quadtree | None = None, *, weighting: str = "nodes"
) -> SimilarityTables:
    """One pass over the features: every cosine that any (tau_S, tau_T) will need.

    Args:
        tokens: ``[T, H, W, C]``, any float dtype, CPU or CUDA.
        tree: the grid; made for ``H x W`` with ``root_level=1`` if left out.
        weighting: ``"nodes"`` (mean of the children's means, the paper's) or ``"patches"`` (mean over all patches).

    Raises:
        ValueError: for a wrong rank, dtype or size, for NaN or infinite values, or an unknown weighting.
    """
    tables, not_finite = unchecked_tables(tokens, tree, weighting)
    if not_finite.item():
        raise ValueError(not_finite_message(tokens))
    return tables


def unchecked_tables(
    tokens: torch.Tensor, tree: Quadtree | None, weighting: str, released: bool = True
) -> tuple[SimilarityTables, torch.Tensor]:
    """As `similarity_tables`, without waiting for the device.

    Args:
        released: False leaves out what only ``rules="as_released"`` needs.

    Returns:
        The tables, and ``[1]``, true if the features are not finite: the tables are worth nothing then.
    """
    tree = check_tokens(tokens, tree)
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}.")
    released = released and len(tree.border_nodes) > 0
    frames = tokens.reshape(tokens.shape[0], tree.num_patches, tokens.shape[-1])  # [T, H*W, C]
    make = _kernel_tables if dispatch.kernels_for(frames) else _torch_tables
    with torch.cuda.device_of(frames):
        *minima_and_pairs, not_finite = make(frames, tree, weighting, released)
    return SimilarityTables(tree, *minima_and_pairs, weighting), not_finite


def check_tokens(tokens: torch.Tensor, tree: Quadtree | None) -> Quadtree:
    """Validate the shape and dtype of ``tokens`` and return their tree."""
    grid = tuple(method.check_tokens(tokens).shape[1:3])
    if tree is None:
        return shared_tree(*grid, 1)
    if grid != (tree.height, tree.width):
        raise ValueError(f"tokens have a {grid[0]}x{grid[1]} grid but the tree is for {tree.height}x{tree.width}.")
    return tree


def _kernel_tables(frames: torch.Tensor, tree: Quadtree, weighting: str, released: bool) -> tuple[torch.Tensor, ...]:
    """Child minima of both rules (or the paper's twice), pair cosines, and ``[1]``: some squared norm is not finite."""
    from . import kernels, kernels_cells  # need Triton

    if not kernels_cells.fits(tree):
        return _torch_tables(frames, tree, weighting, released)
    frames = frames.contiguous()
    child_min, pair_cosines, not_finite = kernels_cells.cosine_tables(frames, tree, weighting)
    lowered = child_min
    if released:
        lowered = child_min.clone()
        kernels.lower_border_minima(frames, *_border_rows(tree, weighting, frames.device), lowered)
    return child_min, lowered, pair_cosines, not_finite


def _torch_tables(frames: torch.Tensor, tree: Quadtree, weighting: str, released: bool) -> tuple[torch.Tensor, ...]:
    """As `_kernel_tables`, some frames at a time."""
    per_chunk = _frames_per_chunk(frames, tree)
    parts = [
        _chunk_tables(
            frames[start : start + per_chunk + 1], tree, weighting, min(per_chunk, len(frames) - start), released
        )
        for start in range(0, len(frames), per_chunk)
    ]
    child_min, lowered, pair_cosines, norms = (torch.cat(rows) for rows in zip(*parts, strict=True))
    not_finite = ~torch.isfinite(norms).all().view(1)
    return child_min, lowered if released else child_min, pair_cosines, not_finite


def _frames_per_chunk(frames: torch.Tensor, tree: Quadtree) -> int:
    per_frame = tree.cells.patches.size * frames.shape[-1]
    chunk_bytes = CHUNK_BYTES * (1 if frames.device.type == "cpu" else DEVICE_CHUNKS)
    return max(1, chunk_bytes // (per_frame * FLOAT_BYTES))


def _grams(frames: torch.Tensor, tree: Quadtree) -> tuple[torch.Tensor, torch.Tensor]:
    """``[F, cells, P, P]`` within frames and ``[F-1, cells, P, P]`` to the next frame, float32."""
    x = frames[:, tree_tensor(tree, "cell_patches", frames.device)].float()  # [F, cells, P, C]
    return x @ x.mT, x[:-1] @ x[1:].mT


def _chunk_tables(
    frames: torch.Tensor, tree: Quadtree, weighting: str, count: int, released: bool
) -> tuple[torch.Tensor, ...]:
    """Tables of the first ``count`` frames, and of each of them with the next where ``frames`` holds it."""
    basis = _basis(tree, weighting, frames.device)  # [cells, M, P]
    within, between = _grams(frames, tree)
    within = basis @ within @ basis.mT  # [F, cells, M, M]; the frame after the chunk gives norms to the last pairs
    between = basis @ between @ basis.mT  # [F-1, cells, M, M]
    norms = _at(within.diagonal(dim1=-2, dim2=-1), tree, "node_slots")  # [F, nodes]
    lengths = norms.clamp(min=0).sqrt()
    child_min = _child_minima(within[:count], lengths[:count], tree)
    lowered = child_min
    if released:
        lowered = _released_minima(frames[:count], child_min, lengths[:count], tree, weighting)
    return child_min, lowered, _pair_cosines(between, lengths, tree), norms[:count]


def _child_minima(within: torch.Tensor, lengths: torch.Tensor, tree: Quadtree) -> torch.Tensor:
    """``[F, internal nodes]``: lowest cosine of each node with its children; 1 for a node with a single child."""
    parents, children = tree_tensor(tree, "parents", within.device), tree_tensor(tree, "filled_children", within.device)
    below = tree.level_offsets[-2]  # nodes below the root grid
    cosines = _cosines(_at(within, tree, "child_slots"), take_columns(lengths, parents[:below]), lengths[:, :below])
    minima = take_columns(cosines, children.view(-1)).view(len(within), *children.shape).amin(dim=-1)
    return torch.where(tree_tensor(tree, "single_child", within.device), 1.0, minima)


def _released_minima(
    frames: torch.Tensor, child_min: torch.Tensor, lengths: torch.Tensor, tree: Quadtree, weighting: str
) -> torch.Tensor:
    """``child_min`` with border nodes also compared to node (0, 0) of their child grid (algorithm, section 1)."""
    released = child_min.clone()
    for border in _borders(tree, weighting, frames.device):
        corner_feature = border.corner_weights @ frames[:, border.corner_patches].float()  # [F, C]
        dots = (frames[:, border.patches].float() @ corner_feature[:, :, None]).squeeze(-1)  # [F, border patches]
        dots = (dots * border.weights) @ border.rows  # [F, border nodes of the level]
        cosines = _cosines(dots, lengths[:, border.nodes], lengths[:, border.corner, None])
        inner = border.nodes - tree.num_patches
        released[:, inner] = torch.minimum(released[:, inner], cosines)
    return released


def _pair_cosines(between: torch.Tensor, lengths: torch.Tensor, tree: Quadtree) -> torch.Tensor:
    earlier, later = tree_tensor(tree, "pairs", between.device).unbind(1)
    return _cosines(
        _at(between, tree, "pair_slots"), take_columns(lengths[:-1], earlier), take_columns(lengths[1:], later)
    )


def _at(values: torch.Tensor, tree: Quadtree, slots: str) -> torch.Tensor:
    return take_columns(values.flatten(1), tree_tensor(tree, slots, values.device))


def _cosines(dots: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Cosines from dot products and lengths; 0 where a vector is zero."""
    scale = first * second
    return torch.where(scale > 0, dots / scale, 0.0).clamp_(-1, 1)


@dataclass(frozen=True)
class _Border:
    """The border nodes of one level, and the node of the finer grid that the released code compares them with."""

    nodes: torch.Tensor  # [B]
    patches: torch.Tensor  # [Q] under the border nodes
    weights: torch.Tensor  # [Q]
    rows: torch.Tensor  # [Q, B] 1 where the node covers the patch
    corner: int
    corner_patches: torch.Tensor  # [R]
    corner_weights: torch.Tensor  # [R]


@lru_cache(maxsize=64)
def _borders(tree: Quadtree, weighting: str, device: torch.device) -> tuple[_Border, ...]:
    weights, borders = tree.patch_weights(weighting), []
    levels = tree.levels[tree.border_nodes]
    for level in np.unique(levels):
        nodes, corner = tree.border_nodes[levels == level], tree.level_offsets[level - 1]
        patches = np.flatnonzero(np.isin(tree.ancestors[level], nodes))
        under = np.flatnonzero(tree.ancestors[level - 1] == corner)
        covers = (tree.ancestors[level, patches, None] == nodes).astype(np.float32)
        arrays = nodes, patches, weights[level, patches], covers, under, weights[level - 1, under]
        nodes, patches, own, covers, under, corners = (torch.tensor(array, device=device) for array in arrays)
        borders.append(_Border(nodes, patches, own, covers, corner, under, corners))
    return tuple(borders)


@lru_cache(maxsize=64)
def _border_rows(tree: Quadtree, weighting: str, device: torch.device) -> tuple[torch.Tensor, ...]:
    """``[B]`` columns of the minima, ``[B, 2, R]`` patches and weights of border nodes and of their corners."""
    weights, means = tree.patch_weights(weighting), []
    for node in tree.border_nodes:
        level = tree.levels[node]
        corner = tree.level_offsets[level - 1]
        both = np.flatnonzero(tree.ancestors[level] == node), np.flatnonzero(tree.ancestors[level - 1] == corner)
        means.append([(both[0], weights[level, both[0]]), (both[1], weights[level - 1, both[1]])])
    longest = max(len(patches) for pair in means for patches, _ in pair)
    rows, shares = (np.zeros((len(means), 2, longest), dtype) for dtype in (np.int64, np.float32))
    for border, pair in enumerate(means):
        for side, (patches, own) in enumerate(pair):
            rows[border, side, : len(patches)], shares[border, side, : len(patches)] = patches, own
    columns = tree.border_nodes - tree.num_patches
    return tuple(torch.tensor(array, device=device) for array in (columns, rows, shares))


@lru_cache(maxsize=64)
def _basis(tree: Quadtree, weighting: str, device: torch.device) -> torch.Tensor:
    return torch.tensor(tree.cells.weights(tree, weighting), device=device)
