"""Geometry of the quadtree over one frame's patch grid (paper section 3.1). No features, no thresholds.

A quadtree here is a stack of grids. Level 0 is the ``H x W`` patch grid; each coarser grid pairs neighbours, and along
an axis of odd length the first row or column stays alone. The coarsest grid kept is the *root grid*; its nodes are the
*cells* in which everything else happens: no merge and no link ever crosses the border of a cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch

MAX_CHILDREN = 4


@dataclass(frozen=True)
class Quadtree:
    """The nodes over an ``height x width`` grid of patches.

    Nodes are numbered level by level: level 0 first (node ``y * width + x``), then level 1, up to the root grid; inside
    a level in scan order. Arrays below are indexed by that number and are read-only.

    Args:
        height, width: patches per frame along each axis, at least 1.
        root_level: how many of the coarsest grids to drop (1 in all published runs). A value that would drop every
            grid leaves the patch grid itself.

    Raises:
        ValueError: if a size is below 1 or ``root_level`` is negative.
    """

    height: int
    width: int
    root_level: int = 1

    def __post_init__(self) -> None:
        for name, low in (("height", 1), ("width", 1), ("root_level", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
                raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}.")

    @property
    def num_patches(self) -> int:
        return self.height * self.width

    @cached_property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        """``(rows, columns)`` of each grid, from the patch grid (level 0) to the root grid."""
        sizes = [(self.height, self.width)]
        while min(sizes[-1]) > 2:
            rows, columns = sizes[-1]
            sizes.append(((rows + 1) // 2, (columns + 1) // 2))
        return tuple(sizes[: max(1, len(sizes) - self.root_level)])

    @property
    def num_levels(self) -> int:
        return len(self.level_sizes)

    @cached_property
    def level_offsets(self) -> tuple[int, ...]:
        """First node of each level, and the number of nodes at the end."""
        return tuple(int(n) for n in np.cumsum([0] + [rows * columns for rows, columns in self.level_sizes]))

    @property
    def num_nodes(self) -> int:
        return self.level_offsets[-1]

    @property
    def num_internal(self) -> int:
        """Nodes above level 0: those that can be split."""
        return self.num_nodes - self.num_patches

    @cached_property
    def ancestors(self) -> np.ndarray:
        """``[levels, H*W]``: the node of each level that covers a patch."""
        rows, columns = np.arange(self.height), np.arange(self.width)
        ancestors = []
        for level, (height, width) in enumerate(self.level_sizes):
            ancestors.append((self.level_offsets[level] + rows[:, None] * width + columns[None, :]).reshape(-1))
            rows, columns = _parent(rows, height), _parent(columns, width)
        return _frozen(np.stack(ancestors))

    @cached_property
    def levels(self) -> np.ndarray:
        """``[nodes]``: level of each node."""
        return _frozen(np.repeat(np.arange(self.num_levels), np.diff(self.level_offsets)))

    @cached_property
    def boxes(self) -> np.ndarray:
        """``[nodes, 4]``: ``y0, x0, y1, x1`` in patches, half open."""
        boxes = np.empty((self.num_nodes, 4), dtype=np.int64)
        ys, xs = np.divmod(np.arange(self.num_patches), self.width)
        for ancestor in self.ancestors:
            nodes, first = np.unique(ancestor, return_index=True)
            last = self.num_patches - 1 - np.unique(ancestor[::-1], return_index=True)[1]
            boxes[nodes] = np.stack([ys[first], xs[first], ys[last] + 1, xs[last] + 1], axis=1)
        return _frozen(boxes)

    @cached_property
    def top_left(self) -> np.ndarray:
        """``[nodes]``: patch at the top left of each node's box; the scan order of nodes of one frame."""
        return _frozen(self.boxes[:, 0] * self.width + self.boxes[:, 1])

    @cached_property
    def patch_counts(self) -> np.ndarray:
        """``[nodes]``: patches covered by each node."""
        boxes = self.boxes
        return _frozen((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))

    @cached_property
    def parents(self) -> np.ndarray:
        """``[nodes]``: parent of each node, -1 on the root grid."""
        parents = np.full(self.num_nodes, -1, dtype=np.int64)
        for finer, coarser in zip(self.ancestors[:-1], self.ancestors[1:], strict=True):
            parents[finer] = coarser
        return _frozen(parents)

    @cached_property
    def children(self) -> np.ndarray:
        """``[internal nodes, 4]``: children of each internal node; absent ones are -1."""
        children = np.full((self.num_internal, MAX_CHILDREN), -1, dtype=np.int64)
        parents = self.parents[: self.level_offsets[-2]]  # nodes below the root grid
        order = np.argsort(parents, kind="stable")
        rows = parents[order] - self.num_patches
        children[rows, np.arange(len(rows)) - np.searchsorted(rows, rows)] = order
        return _frozen(children)

    @cached_property
    def child_counts(self) -> np.ndarray:
        """``[internal nodes]``: 1, 2 or 4."""
        return _frozen((self.children >= 0).sum(axis=1))

    @cached_property
    def border_nodes(self) -> np.ndarray:
        """Internal nodes with fewer than 4 children, which the released code treats differently (algorithm, 1)."""
        return _frozen(self.num_patches + np.flatnonzero(self.child_counts < MAX_CHILDREN))

    @cached_property
    def pairs(self) -> np.ndarray:
        """``[pairs, 2]``: candidate pairs (node in frame t, node in frame t+1) of which one box contains the other."""
        return _frozen(self._pair_tables[0])

    @cached_property
    def pair_index(self) -> np.ndarray:
        """``[levels, levels, H*W]``: the pair (level of the earlier node, of the later node) over a patch."""
        return _frozen(self._pair_tables[1])

    @cached_property
    def _pair_tables(self) -> tuple[np.ndarray, np.ndarray]:
        pairs, index, count = [], np.empty((self.num_levels, self.num_levels, self.num_patches), dtype=np.int64), 0
        for earlier in range(self.num_levels):
            for later in range(self.num_levels):
                start, end = self.level_offsets[min(earlier, later) :][:2]  # the finer node names the pair
                tops = self.top_left[start:end]
                both = np.stack([self.ancestors[earlier, tops], self.ancestors[later, tops]], axis=1)
                order = np.argsort(both[:, 0], kind="stable")
                place = np.empty_like(order)
                place[order] = count + np.arange(len(order))
                pairs.append(both[order])
                index[earlier, later] = place[self.ancestors[min(earlier, later)] - start]
                count += len(order)
        return np.concatenate(pairs), index

    @cached_property
    def cells(self) -> Cells:
        return Cells.of(self)

    @property
    def cell_patches(self) -> np.ndarray:
        """``[cells, P]``: patches of each cell, see `Cells`."""
        return self.cells.patches

    @cached_property
    def node_slots(self) -> np.ndarray:
        """``[nodes]``: place of a node in ``[cells, M]``."""
        return _frozen(self.cells.slots @ [self.cells.nodes.shape[1], 1])

    @cached_property
    def child_slots(self) -> np.ndarray:
        """``[nodes below the root grid]``: place of (parent, node) in ``[cells, M, M]``."""
        below = np.arange(self.level_offsets[-2])
        return self._place(self.parents[below], below)

    @cached_property
    def pair_slots(self) -> np.ndarray:
        """``[pairs]``: place of (earlier, later) in ``[cells, M, M]``."""
        return self._place(*self.pairs.T)

    @cached_property
    def filled_children(self) -> np.ndarray:
        """``[internal nodes, 4]``: children, with absent ones repeating the first."""
        return _frozen(np.where(self.children < 0, self.children[:, :1], self.children))

    @cached_property
    def node_weights(self) -> np.ndarray:
        """``[levels, H*W]``: `patch_weights` of the published method."""
        return _frozen(self.patch_weights("nodes"))

    @cached_property
    def single_child(self) -> np.ndarray:
        """``[internal nodes]`` bool."""
        return _frozen(self.child_counts == 1)

    def _place(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        size, slots = self.cells.nodes.shape[1], self.cells.slots
        return _frozen((slots[first, 0] * size + slots[first, 1]) * size + slots[second, 1])

    def patch_weights(self, weighting: str) -> np.ndarray:
        """``[levels, H*W]`` float32: weight of each patch in the mean of the node that covers it.

        ``"nodes"`` is the plain mean of the children's means, level by level; ``"patches"`` the mean over all patches.
        """
        if weighting == "patches":
            return (1.0 / self.patch_counts[self.ancestors]).astype(np.float32)
        weights = [np.ones(self.num_patches)]
        for level in range(1, self.num_levels):
            parents = self.ancestors[level]
            weights.append(weights[-1] / self.child_counts[parents - self.num_patches])
        return np.stack(weights).astype(np.float32)


@dataclass(frozen=True)
class Cells:
    """The root grid's nodes as small dense problems of one shape: smaller cells are padded.

    Attributes:
        patches: ``[cells, P]`` patch of each slot; padding repeats the cell's first patch (its weights are 0).
        nodes: ``[cells, M]`` node of each slot, -1 for padding.
        slots: ``[nodes, 2]`` (cell, slot) of each node.
    """

    patches: np.ndarray
    nodes: np.ndarray
    slots: np.ndarray

    @classmethod
    def of(cls, tree: Quadtree) -> Cells:
        cell_of_patch = tree.ancestors[-1] - tree.level_offsets[-2]
        patches = _pad([np.flatnonzero(cell_of_patch == cell) for cell in range(cell_of_patch.max() + 1)])
        cell_of_node = cell_of_patch[tree.top_left]
        members = [np.flatnonzero(cell_of_node == cell) for cell in range(len(patches))]
        slots = np.empty((tree.num_nodes, 2), dtype=np.int64)
        for cell, nodes in enumerate(members):
            slots[nodes] = np.stack([np.full(len(nodes), cell), np.arange(len(nodes))], axis=1)
        first = patches[:, :1]
        return cls(_frozen(np.where(patches < 0, first, patches)), _frozen(_pad(members)), _frozen(slots))

    def weights(self, tree: Quadtree, weighting: str) -> np.ndarray:
        """``[cells, M, P]`` float32: each node's feature as weighted sum of its cell's patches (algorithm, 5)."""
        weights = np.zeros((*self.nodes.shape, self.patches.shape[1]), dtype=np.float32)
        by_level = tree.patch_weights(weighting)
        for level, ancestors in enumerate(tree.ancestors):
            cell, slot = self.slots[ancestors].T
            position = self.slots[: tree.num_patches, 1]  # level-0 nodes come first in a cell, in the patches' order
            weights[cell, slot, position] = by_level[level]
        return weights


def _pad(rows: list[np.ndarray]) -> np.ndarray:
    padded = np.full((len(rows), max(map(len, rows))), -1, dtype=np.int64)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded


@lru_cache(maxsize=64)
def shared_tree(height: int, width: int, root_level: int) -> Quadtree:
    """The same tree object for the same grid, so that its arrays are computed once a process."""
    return Quadtree(height, width, root_level)


@lru_cache(maxsize=512)
def tree_tensor(tree: Quadtree, name: str, device: torch.device) -> torch.Tensor:
    """One of the tree's arrays as a tensor, copied to each device once."""
    return torch.tensor(getattr(tree, name), device=device)


def lookup(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """``table.flatten()[index]``, in the shape of ``index``; on the CPU several times faster than indexing."""
    return table.reshape(-1).index_select(0, index.reshape(-1)).view(index.shape)


def take_columns(rows: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """``rows[:, index]`` for a 1-D ``index``; on the CPU several times faster than indexing."""
    return rows.gather(1, index.expand(len(rows), -1))


def _parent(index: np.ndarray, length: int) -> np.ndarray:
    """Index on the next coarser grid, along an axis of ``length``: pairs, with the first alone where it is odd."""
    return (index + length % 2) // 2


def _frozen(array: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(array)
    array.setflags(write=False)
    return array
