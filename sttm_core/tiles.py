"""Root cells as square tiles for the GPU: each node's patches lie side by side, so sums over nodes are sums of groups.

A tile has ``SIDE = 4 ** depth`` slots (at least 16, the smallest matrix product of the GPU). A node's four children own
the four quarters of its slots; where a border node has fewer children their slots stay empty. Node ``i`` of level ``l``
then owns slots ``i * 4**l`` to ``(i + 1) * 4**l - 1`` of its tile.
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

    Attributes:
        patches: ``[tiles, SIDE]`` int32, the patch in each slot, -1 if there is none.
        weights: ``[levels, tiles, SIDE]`` float32, its weight in the mean of the node of that level.
        nodes: ``[levels, tiles, SIDE]`` int32, the level's nodes, -1 if there is none.
        pairs: ``[levels, levels, tiles, SIDE]`` int32, by level of the earlier and of the later node: the pair that the
            finer node of the two makes with its ancestor, -1 if there is none.
    """

    patches: torch.Tensor
    weights: torch.Tensor
    nodes: torch.Tensor
    pairs: torch.Tensor

    @property
    def side(self) -> int:
        return self.patches.shape[1]

    @property
    def count(self) -> int:
        return self.patches.shape[0]

    @property
    def levels(self) -> int:
        return self.nodes.shape[0]


def tile_side(tree: Quadtree) -> int:
    """Slots of each tile."""
    return max(SMALLEST_SIDE, MAX_CHILDREN ** (tree.num_levels - 1))


@lru_cache(maxsize=64)
def tiles_of(tree: Quadtree, weighting: str, device: torch.device) -> Tiles:
    """The tiles of a tree; copied to each device once."""
    arrays = _patches(tree), _weights(tree, weighting), _nodes(tree), _pairs(tree)
    return Tiles(*(torch.tensor(np.ascontiguousarray(array), device=device) for array in arrays))


def _places(tree: Quadtree) -> tuple[np.ndarray, np.ndarray]:
    """``[nodes]`` each: the tile of a node, and its number among the nodes of its level there."""
    tile = tree.ancestors[-1, tree.top_left] - tree.level_offsets[-2]
    number = np.zeros(tree.num_nodes, dtype=np.int64)
    for level in range(tree.num_levels - 1, 0, -1):
        parents = np.arange(tree.level_offsets[level], tree.level_offsets[level + 1])
        children = tree.children[parents - tree.num_patches]  # [parents, 4]
        numbers = MAX_CHILDREN * number[parents, None] + np.arange(MAX_CHILDREN)
        number[children[children >= 0]] = numbers[children >= 0]
    return tile, number


def _empty(tree: Quadtree, *shape: int) -> np.ndarray:
    tiles = tree.num_nodes - tree.level_offsets[-2]
    return np.full((*shape, tiles, tile_side(tree)), EMPTY, dtype=np.int32)


def _nodes(tree: Quadtree) -> np.ndarray:
    (tile, number), nodes = _places(tree), _empty(tree, tree.num_levels)
    nodes[tree.levels, tile, number] = np.arange(tree.num_nodes)
    return nodes


def _patches(tree: Quadtree) -> np.ndarray:
    return _nodes(tree)[0]  # nodes of level 0 are numbered as patches


def _weights(tree: Quadtree, weighting: str) -> np.ndarray:
    patches = _patches(tree)
    return np.where(patches < 0, 0, tree.patch_weights(weighting)[:, patches]).astype(np.float32)


def _pairs(tree: Quadtree) -> np.ndarray:
    nodes, pairs = _nodes(tree), _empty(tree, tree.num_levels, tree.num_levels)
    for earlier in range(tree.num_levels):
        for later in range(tree.num_levels):
            finer = nodes[min(earlier, later)]
            found = tree.pair_index[earlier, later, tree.top_left[finer]]
            pairs[earlier, later] = np.where(finer < 0, EMPTY, found)
    return pairs
