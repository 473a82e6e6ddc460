"""Octree: space and time in one tree, the ablation of STTM's paper (Hyun et al., ICCV 2025, arXiv 2507.07990).

The clip is cut into snippets of as many frames as a row has patches (14 at 14 x 14). A snippet is a tree of 2 x 2 x 2
nodes: a node's feature is the mean of its children's, and on a side of odd length the first slice stands alone. As in
the quadtree, sides are halved until one of them is 2, and `root_level` of the coarsest grids are dropped. From the root
grid down, a node whose cosine to every child is at least tau becomes one token, else its children are looked at.
Frames that are left after the last whole snippet go through the spatial quadtree alone, each by itself, and so does a
clip shorter than a snippet. A token stands at the first patch of its node.

There is one threshold and no other knob, so a budget is a search for it. The tree's similarities hold all that can
happen: a node is a token while tau lies above all similarities of its ancestors and at most at its own. The number of
tokens at any tau is then the difference of two ranks, and the largest number within a budget is found exactly. Where
even the root grid holds more, that is kept: a plan's ``retention`` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch

from ..method import Method, TokenPlan, budget_count, check_retention, check_whole
from .likeness import in_blocks, squared_norms

MAX_TAU = 2.0  # cosines end at 1; anything above merges nothing
NOTHING_MERGES = float(np.nextafter(np.float32(1), np.float32(2)))
Sides = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees of one shape.

    Attributes:
        sides: ``(frames, rows, columns)`` of each level's grid, the patches first.
        minima: for each level above the patches ``[U, frames, rows, columns]`` float32, the lowest cosine of a node
            with its children, for U trees.
        units: U.
        device: of the tensors.
    """

    sides: tuple[Sides, ...]
    minima: tuple[torch.Tensor, ...]
    units: int
    device: torch.device

    def roots(self, value: float | bool, dtype: torch.dtype) -> torch.Tensor:
        """``value`` for every node of the root grids."""
        return torch.full((self.units, *self.sides[-1]), value, dtype=dtype, device=self.device)


@dataclass(frozen=True, eq=False)
class OctreeTables:
    """All similarities of a video's trees: those of its snippets, and those of the frames that are left over."""

    forests: tuple[Forest, ...]

    @property
    def nbytes(self) -> int:
        return sum(values.nbytes for forest in self.forests for values in forest.minima)

    @cached_property
    def ranks(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Sorted float32: above which tau each node is looked at, patches included; above which tau it is split."""
        looked_at, split = [], []
        for forest in self.forests:
            above = forest.roots(-math.inf, torch.float32)  # highest similarity of the ancestors
            for level in range(len(forest.minima), 0, -1):
                looked_at.append(above.flatten())
                reached = torch.maximum(above, forest.minima[level - 1])
                split.append(reached.flatten())
                above = spread(reached, forest.sides[level - 1])
            looked_at.append(above.flatten())
        ends = split or [above.new_empty(0)]
        return torch.cat(looked_at).sort().values, torch.cat(ends).sort().values

    def count_tokens(self, taus: torch.Tensor) -> torch.Tensor:
        """Tokens that are left at each of ``taus``, float32."""
        looked_at, split = self.ranks
        return torch.searchsorted(looked_at, taus) - torch.searchsorted(split, taus)

    def tau_for(self, count: int) -> float:
        """The threshold that leaves the largest number of tokens up to ``count``, or as few as any does."""
        own = [values.flatten() for forest in self.forests for values in forest.minima]
        taus = torch.cat([*own, self.ranks[0].new_tensor([NOTHING_MERGES])]).unique()  # rising: so are the counts
        within = int((self.count_tokens(taus) <= count).sum())
        return float(taus[max(0, within - 1)])

    def first_patches(self, tau: float) -> torch.Tensor:
        """``[T*H*W]`` int64: for each patch the first patch of its token."""
        parts = [first_patches(forest, tau) for forest in self.forests]
        starts = [0, len(parts[0])]
        return torch.cat([part + start for part, start in zip(parts, starts, strict=False)])


@dataclass(frozen=True)
class Octree(Method):
    """Merging in trees over space and time.

    Attributes:
        retention: budget, used where ``tau`` is None.
        tau: lowest cosine of a node with its children at which the node is one token.
        snippet: frames of a snippet; None for the patches in a row, as published.
        root_level: coarsest grids that are not used.

    Raises:
        ValueError: for a value out of range, in one sentence.
    """

    name: ClassVar[str] = "octree"
    title: ClassVar[str] = "Octree"
    paper: ClassVar[str] = "Hyun et al., ICCV 2025, arXiv 2507.07990 (ablation)"
    overrides: ClassVar[tuple[str, ...]] = ("tau",)

    retention: float = 0.5
    tau: float | None = None
    snippet: int | None = None
    root_level: int = 1

    def __post_init__(self) -> None:
        check_retention(self.retention)
        check_whole("snippet", self.snippet, 1)
        check_whole("root_level", self.root_level, 0)
        tau = -1 if self.tau is None else self.tau
        if not isinstance(tau, (int, float)) or not -1 <= tau <= MAX_TAU:
            raise ValueError(f"tau must lie between -1 and {MAX_TAU:g}, got {self.tau!r}.")

    @property
    def tables_key(self) -> tuple:
        return (self.name, self.snippet, self.root_level)

    def tables(self, tokens: torch.Tensor) -> OctreeTables:
        """Every cosine that any threshold will need: one pass over the features."""
        squared_norms(tokens)  # looks for what is not finite
        frames, length = len(tokens), self.snippet or tokens.shape[2]
        whole = frames // length * length
        parts = [(tokens[:whole].unflatten(0, (-1, length)), True)] if whole else []
        parts += [(tokens[whole:, None], False)] if whole < frames else []  # trees of one frame
        return OctreeTables(tuple(forest_of(trees, in_time, self.root_level) for trees, in_time in parts))

    def plan(self, tokens: torch.Tensor, tables: OctreeTables | None = None) -> TokenPlan:
        tables = self.tables(tokens) if tables is None else tables
        grid = tuple(tokens.shape[:3])
        tau = tables.tau_for(budget_count(math.prod(grid), self.retention)) if self.tau is None else self.tau
        first = tables.first_patches(float(np.float32(tau)))
        stands = first == torch.arange(len(first), device=first.device)
        member_of = (stands.cumsum(0) - 1)[first]
        return TokenPlan(replace(self, tau=tau), stands.nonzero().squeeze(1), member_of.view(grid))


def forest_of(trees: torch.Tensor, in_time: bool, root_level: int) -> Forest:
    """The similarities of ``trees [U, F, H, W, C]``, some of them at a time.

    Args:
        in_time: whether frames are halved too; without it F is 1.
    """
    sides = level_sides(tuple(trees.shape[1:4]), in_time, root_level)
    blocks = [level_minima(block, len(sides)) for block in in_blocks(trees)]
    minima = tuple(torch.cat(level) for level in zip(*blocks, strict=True))
    return Forest(sides, minima, len(trees), trees.device)


def level_sides(sides: Sides, in_time: bool, root_level: int) -> tuple[Sides, ...]:
    """Sides of each level's grid: halved until one of those that are halved is 2, less the coarsest."""
    levels = [sides]
    while min(levels[-1] if in_time else levels[-1][1:]) > 2:
        levels.append(tuple((side + 1) // 2 for side in levels[-1]))
    return tuple(levels[: max(1, len(levels) - root_level)])


def level_minima(features: torch.Tensor, levels: int) -> list[torch.Tensor]:
    """Lowest cosine of each node with its children, a tensor a level above ``features [U, F, H, W, C]``; float32."""
    minima = []
    for _ in range(levels - 1):
        finer = tuple(features.shape[1:4])
        parents = halve(features, lambda first, second: (first + second).div_(2))
        scale = features.norm(dim=-1) * spread(parents.norm(dim=-1), finer)
        dots = torch.linalg.vecdot(features, spread(parents, finer))
        cosines = torch.where(scale > 0, dots / scale, 0.0).clamp_(-1, 1)
        children = halve(torch.ones_like(cosines), torch.add)
        minima.append(torch.where(children == 1, 1.0, halve(cosines, torch.minimum)))
        features = parents
    return minima


def halve(grid: torch.Tensor, join: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Join neighbours along axes 1, 2 and 3 of ``[U, F, H, W, ...]``; on an odd side the first slice stands alone."""
    for axis in (1, 2, 3):
        alone = grid.shape[axis] % 2
        pairs = grid.narrow(axis, alone, grid.shape[axis] - alone).unflatten(axis, (-1, 2))
        joined = join(pairs.select(axis + 1, 0), pairs.select(axis + 1, 1))
        grid = torch.cat([grid.narrow(axis, 0, 1), joined], dim=axis) if alone else joined
    return grid


def spread(grid: torch.Tensor, sides: Sides) -> torch.Tensor:
    """Each node's value of ``[U, f, h, w, ...]`` for its children on the finer grid ``[U, F, H, W, ...]``."""
    for axis, side in enumerate(sides, start=1):
        parents = (torch.arange(side, device=grid.device) + side % 2) // 2
        grid = grid.index_select(axis, parents)
    return grid


def first_patches(forest: Forest, tau: float) -> torch.Tensor:
    """``[U*F*H*W]`` int64: for each patch the first patch of its token, both counted through all trees."""
    size = math.prod(forest.sides[0])
    firsts = [torch.arange(size, device=forest.device).view(1, *forest.sides[0])]
    for _ in forest.minima:
        firsts.append(halve(firsts[-1], lambda first, second: first))
    chosen, opened = firsts[-1], forest.roots(True, torch.bool)  # opened: nodes that are looked at
    for level in range(len(forest.minima), 0, -1):
        finer = forest.sides[level - 1]
        opened = spread(opened & (forest.minima[level - 1] < tau), finer)
        chosen = torch.where(opened, firsts[level - 1], spread(chosen, finer))
    start = torch.arange(forest.units, device=forest.device)[:, None] * size
    return (chosen.expand(forest.units, *forest.sides[0]).flatten(1) + start).flatten()
