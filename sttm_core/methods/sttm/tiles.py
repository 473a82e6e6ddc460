"""Cells as square tiles for the GPU: each node's patches lie side by side, so sums over nodes are sums of groups.

A tile has ``SIDE = 4 ** depth`` slots (at least 16, the smallest matrix product of the GPU). A node's four children own
the four quarters of its slots; where a border node has fewer children their slots stay empty. Node ``i`` of level ``l``
then owns slots ``i * 4**l`` to ``(i + 1) * 4**l - 1`` of its tile.

Tiles may cover some levels of the tree only. The features in their slots are then those of nodes of the lowest of
these levels, and `ancestor_pairs` says what is left between nodes of tiles and levels above.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from .quadtree import MAX_CHILDREN, Quadtree

SMALLEST_SIDE = 16
EMPTY = -1


@dataclass(frozen=True, eq=False)
class Tiles:
    """Where everything lies. Arrays of nodes are padded to SIDE columns; level ``l`` uses the first ``SIDE / 4**l``.

    Levels are counted from the lowest that the tiles cover.

    Attributes:
        rows: ``[tiles, SIDE]`` int32, the node of the lowest level in each slot, counted from the first of that level
            (the patch, if that is level 0), -1 if there is none.
        weights: ``[levels, tiles, SIDE]`` float32, its weight in the mean of the node of that level.
        nodes: ``[levels, tiles, SIDE]`` int32, the level's nodes, -1 if there is none.
        pairs: ``[levels, levels, tiles, SIDE]`` int32, by level of the earlier and of the later node: the pair that the
            finer node of the two makes with its ancestor, -1 if there is none.
    """

    rows: torch.Tensor
    weights: torch.Tensor
    nodes: torch.Tensor
    pairs: torch.Tensor

    @property
    def side(self) -> int:
        return self.rows.shape[1]

    @property
    def count(self) -> int:
        return self.rows.shape[0]

    @property
    def levels(self) -> int:
        return self.nodes.shape[0]


@dataclass(frozen=True, eq=False)
class AncestorPairs:
    """What the nodes below the roots of tiles are compared with in one of the levels above those roots.

    Attributes:
        ancestors: ``[tiles]`` int32, the node of that level over each tile, counted from the first of the level.
        pairs: ``[levels, 2, tiles, SIDE]`` int32, by level of the node in the tile: its pair with the ancestor in the
            next frame, and that of the ancestor in the frame before with it; -1 if there is none.
    """

    ancestors: torch.Tensor
    pairs: torch.Tensor

    @property
    def levels(self) -> int:
        return self.pairs.shape[0]


def tile_side(levels: int) -> int:
    """Slots of each tile of so many levels."""
    return max(SMALLEST_SIDE, MAX_CHILDREN ** (levels - 1))


@lru_cache(maxsize=256)
def tiles_of(tree: Quadtree, weighting: str, device: torch.device, first: int, last: int) -> Tiles:
    """Tiles of levels ``first`` to ``last``, one for each node of ``last`` in order; copied to each device once."""
    nodes, (start, end) = _nodes(tree, first, last), tree.level_offsets[first : first + 2]
    rows = np.where(nodes[0] < 0, EMPTY, nodes[0] - start).astype(np.int32)
    tops = tree.top_left[start:end][rows]
    by_level = tree.patch_weights(weighting)[first : last + 1, tops] / tree.patch_weights(weighting)[first, tops]
    weights = np.where(rows < 0, 0, by_level).astype(np.float32)
    levels = range(first, last + 1)
    pairs = [[_pairs(tree, earlier, later, nodes, first) for later in levels] for earlier in levels]
    return Tiles(*(_on(device, array) for array in (rows, weights, nodes, pairs)))


@lru_cache(maxsize=256)
def ancestor_pairs(tree: Quadtree, last: int, level: int, device: torch.device) -> AncestorPairs:
    """Of the tiles of levels 0 to ``last`` with a coarser level; copied to each device once."""
    nodes, (start, end) = _nodes(tree, 0, last), tree.level_offsets[last : last + 2]
    ancestors = (tree.ancestors[level, tree.top_left[start:end]] - tree.level_offsets[level]).astype(np.int32)
    pairs = [[_pairs(tree, *both, nodes, 0) for both in ((finer, level), (level, finer))] for finer in range(last)]
    return AncestorPairs(*(_on(device, array) for array in (ancestors, pairs)))


def _nodes(tree: Quadtree, first: int, last: int) -> np.ndarray:
    """`Tiles.nodes` of levels ``first`` to ``last``."""
    number = np.zeros(tree.num_nodes, dtype=np.int64)  # of a node among those of its level in its tile
    for level in range(last, first, -1):
        parents = np.arange(*tree.level_offsets[level : level + 2])
        children = tree.children[parents - tree.num_patches]  # [parents, 4]
        numbers = MAX_CHILDREN * number[parents, None] + np.arange(MAX_CHILDREN)
        number[children[children >= 0]] = numbers[children >= 0]
    ids = np.arange(tree.level_offsets[first], tree.level_offsets[last + 1])
    tile = tree.ancestors[last, tree.top_left[ids]] - tree.level_offsets[last]
    nodes = np.full((last - first + 1, tile.max() + 1, tile_side(last - first + 1)), EMPTY, dtype=np.int32)
    nodes[tree.levels[ids] - first, tile, number[ids]] = ids
    return nodes


def _pairs(tree: Quadtree, earlier: int, later: int, nodes: np.ndarray, first: int) -> np.ndarray:
    """``[tiles, SIDE]`` int32: pairs of two levels by the finer node, in the places of that node in a tile."""
    finer = nodes[min(earlier, later) - first]
    found = tree.pair_index[earlier, later, tree.top_left[finer]]
    return np.where(finer < 0, EMPTY, found).astype(np.int32)


def _on(device: torch.device, array: np.ndarray | list[list[np.ndarray]]) -> torch.Tensor:
    return torch.tensor(np.ascontiguousarray(array), device=device)
