"""Thresholds for a wanted retention, and retention over the whole plane of thresholds. From the tables alone.

The path through the (tau_S, tau_T) plane. Sort the similarities that tau_S is compared with, and those that tau_T is
compared with. A point of the path is a share ``u`` between 0 and 1: tau_S is the value that a share ``u ** a`` of the
first kind reaches, tau_T the value that a share ``u ** b`` of the second kind reaches. At ``u = 0`` nothing merges and
at ``u = 1`` everything does that ever can; on the way both thresholds fall together. ``prefer`` chooses the exponents.
A stage that is not preferred is not switched off: its share is at least that of `LEAST` (or ``u``, if that is less),
which is enough to merge some 2% of the tokens.

Retention is no monotone function of ``u``: a coarser node may lose a link that its parts had. The search bisects with
the same midpoints for every budget and returns the best point that it met. For two budgets it meets the same points
until one of them lies between the budgets, and the larger budget then returns at least that one: a smaller budget
never gets a larger retention.

Where many similarities are equal (a still picture has thousands of cosines of 1) the path jumps. A budget that lies in
a jump, more than ``TOLERANCE`` above its lower end, is looked for from the jump's upper end with one threshold falling
alone, first tau_S, then tau_T; again by bisection, until a point is near enough. Two budgets are still in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from .components import released_labels
from .plan import check_rules, check_threshold, idle_stage, keep_nodes, link_ends, mark_links
from .quadtree import lookup
from .similarity import SimilarityTables

LEAST = (0.02, 0.005)  # shares of the similarities of tau_S and of tau_T
EXPONENTS = {"balanced": (1, 1), "spatial": (1, 3), "temporal": (3, 1)}
STEPS = 2048  # points on the path, beside its start
RUNGS = 16  # points looked at when the budget lies below the end of the path
TOLERANCE = 0.005  # retention below the budget that is near enough
ANY_LINK = float(np.finfo(np.float32).tiny)  # tau_T <= 0 would switch linking off
Point = tuple[int, int]  # steps of tau_S and of tau_T; equal on the path


@dataclass(frozen=True)
class BudgetThresholds:
    """Thresholds found for a budget.

    Attributes:
        tau_spatial, tau_temporal: one of the video's own similarities each (or just above 1: nothing merges).
        retention: what a plan at these thresholds keeps, counted.
        budget: the retention asked for.
        floor: lowest retention that the search met; no budget below it can be reached on this path.
        nodes: share of tokens that is left after the spatial stage, 1 where nothing merges in space.
    """

    tau_spatial: float
    tau_temporal: float
    retention: float
    budget: float
    floor: float
    nodes: float

    @property
    def idle_stage(self) -> str:
        """``"spatial"`` or ``"temporal"`` where that stage merges nothing and the other one does, else empty."""
        return idle_stage(self.nodes, self.retention)

    @property
    def reachable(self) -> bool:
        """Whether the budget is kept."""
        return self.retention <= self.budget

    def __repr__(self) -> str:
        note = "" if self.reachable else f", budget {self.budget:.1%} is below the floor of this video"
        return (
            f"BudgetThresholds(tau_spatial={self.tau_spatial:.4f}, tau_temporal={self.tau_temporal:.4f}, "
            f"{self.retention:.1%} kept{note})"
        )


def thresholds_for_retention(
    tables: SimilarityTables, retention: float, *, prefer: str = "balanced", rules: str = "paper"
) -> BudgetThresholds:
    """Thresholds whose measured retention comes nearest to ``retention`` from below.

    Args:
        tables: the video's similarities.
        retention: share of tokens to keep at most, above 0 and up to 1.
        prefer: ``"balanced"`` lets the same share of both kinds of similarities merge; ``"spatial"`` and ``"temporal"``
            let that kind go first (the other's share is the third power of it, but never none). See the module's text.
        rules: as in `SimilarityTables.plan`.

    Raises:
        ValueError: for a retention outside (0, 1], an unknown preference or unknown rules.
    """
    budget = _check_budget(retention)
    if prefer not in EXPONENTS:
        raise ValueError(f"prefer must be one of {', '.join(EXPONENTS)}, got {prefer!r}.")
    check_rules(rules)
    tables = tables.to("cpu")
    thresholds = _thresholds(tables, prefer, rules)
    kept = _Memo(lambda point: count_tokens(tables, *thresholds(point), rules) / tables.num_patches)
    point, floor = _search(kept, budget)
    taus = thresholds(point)
    nodes = int(keep_nodes(tables, check_threshold("tau_spatial", taus[0]), rules).is_top.sum())
    return BudgetThresholds(*taus, kept[point], budget, floor, nodes / tables.num_patches)


def retention_surface(
    tables: SimilarityTables, taus_spatial: Sequence[float], taus_temporal: Sequence[float], *, rules: str = "paper"
) -> np.ndarray:
    """``[S, T]`` float64: retention at every pair of thresholds, equal to that of the plans.

    Raises:
        ValueError: for a threshold that is not a finite number, or unknown rules.
    """
    check_rules(rules)
    tables = tables.to("cpu")
    taus_s = [check_threshold("taus_spatial", tau) for tau in taus_spatial]
    taus_t = np.array([check_threshold("taus_temporal", tau) for tau in taus_temporal])
    counts = _counts_of_released_row if rules == "as_released" else _counts_of_row
    rows = [counts(*_candidates(tables, tau, ANY_LINK, rules), taus_t) for tau in taus_s]
    return np.array(rows, dtype=np.float64).reshape(len(taus_s), len(taus_t)) / tables.num_patches


def count_tokens(tables: SimilarityTables, tau_spatial: float, tau_temporal: float, rules: str) -> int:
    """``tables.plan(...).num_tokens`` for tables on the CPU, without making the plan."""
    tau_s, tau_t = check_threshold("tau_spatial", tau_spatial), check_threshold("tau_temporal", tau_temporal)
    num_nodes, ends, _ = _candidates(tables, tau_s, tau_t, rules)
    if rules == "as_released":
        return _count_released(num_nodes, ends)
    linked = coo_matrix((np.ones(len(ends), dtype=np.float64), tuple(ends.T)), shape=(num_nodes, num_nodes))
    return connected_components(linked, directed=False, return_labels=False)


class _Memo(dict):
    """Remembers what a function returned: each point is counted once."""

    def __init__(self, function: Callable[[Point], float]) -> None:
        super().__init__()
        self.function = function

    def __missing__(self, point: Point) -> float:
        self[point] = self.function(point)
        return self[point]


def _search(kept: _Memo, budget: float) -> tuple[Point, float]:
    """The point with the highest retention within ``budget`` among those met (see the module's text); the floor."""
    if kept[STEPS, STEPS] > budget:
        for rung in range(0, STEPS, STEPS // RUNGS):
            kept[rung, rung]  # counted and remembered
    elif kept[0, 0] > budget:
        above = _bisect(lambda step: kept[step, step], 0, budget)
        for walk in (lambda step: kept[step, above], lambda step: kept[above, step]):
            if not _near(kept.values(), budget) and walk(STEPS) <= budget:
                _bisect(walk, above, budget, until=lambda share: _near([share], budget))
    floor = min(kept.values())
    wanted = max((share for share in kept.values() if share <= budget), default=floor)
    return min(point for point, share in kept.items() if share == wanted), floor


def _bisect(
    walk: Callable[[int], float], above: int, budget: float, until: Callable[[float], bool] = lambda share: False
) -> int:
    """A step whose retention exceeds ``budget``, which the next step's does not; that of ``above`` does."""
    within = STEPS
    while within - above > 1 and not until(walk(within)):
        middle = (within + above) // 2
        within, above = (middle, above) if walk(middle) <= budget else (within, middle)
    return above


def _near(shares: Iterable[float], budget: float) -> bool:
    """Whether one of them is within the budget, and at most ``TOLERANCE`` below."""
    return any(0 <= budget - share <= TOLERANCE for share in shares)


def _thresholds(tables: SimilarityTables, prefer: str, rules: str) -> Callable[[Point], tuple[float, float]]:
    spatial = np.sort(tables.split_minima(rules).numpy(), axis=None)[::-1]
    links = tables.pair_cosines.numpy()
    temporal = np.sort(links[links > 0])[::-1]

    def thresholds(point: Point) -> tuple[float, float]:
        of_spatial, of_temporal = map(_share, point, EXPONENTS[prefer], LEAST)
        return _reached_by(spatial, of_spatial), _reached_by(temporal, of_temporal)

    return thresholds


def _share(step: int, power: int, least: float) -> float:
    """Share of the similarities that merge at a step of the path."""
    u = step / STEPS
    return max(u**power, min(u, least))


def _reached_by(falling: np.ndarray, share: float) -> float:
    """The value that this share of the values reaches; just above 1, which none does, for the share 0."""
    index = round(share * len(falling))
    return float(falling[index - 1] if index else np.nextafter(np.float32(1), np.float32(2)))


def _candidates(
    tables: SimilarityTables, tau_spatial: float, tau_temporal: float, rules: str
) -> tuple[int, np.ndarray, np.ndarray]:
    """Number of kept nodes, ``[K, 2]`` links between them and their ``[K]`` cosines."""
    kept = keep_nodes(tables, tau_spatial, rules)
    linked, cosines = mark_links(tables, kept, tau_temporal)
    links_at = linked.view(-1).nonzero().squeeze(1)
    return int(kept.is_top.sum()), link_ends(kept, links_at).numpy(), lookup(cosines, links_at).numpy()


def _counts_of_row(num_nodes: int, ends: np.ndarray, cosines: np.ndarray, taus: np.ndarray) -> np.ndarray:
    """Tokens at each tau_T for fixed kept nodes: each link of the maximum spanning forest joins two components."""
    order = np.argsort(-cosines, kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.arange(1, len(order) + 1)  # weights of 0 would be no links
    forest = minimum_spanning_tree(coo_matrix((ranks, tuple(ends.T)), shape=(num_nodes, num_nodes)))
    joining = np.sort(cosines[order[forest.data.astype(np.int64) - 1]])
    linked = len(joining) - np.searchsorted(joining, taus.astype(np.float32), side="left")
    return num_nodes - np.where(taus > 0, linked, 0)


def _counts_of_released_row(num_nodes: int, ends: np.ndarray, cosines: np.ndarray, taus: np.ndarray) -> np.ndarray:
    chosen = [ends[cosines >= tau] if tau > 0 else ends[:0] for tau in taus.astype(np.float32)]
    return np.array([_count_released(num_nodes, links) for links in chosen], dtype=np.int64)


def _count_released(num_nodes: int, ends: np.ndarray) -> int:
    """Tokens after the released loop; every label is the number of a node that carries it."""
    linked = np.zeros(num_nodes, dtype=bool)
    linked[ends] = True
    rank = np.cumsum(linked) - 1  # among the linked nodes: their order, hence the loop's course, stays
    first, second = torch.from_numpy(rank[np.ascontiguousarray(ends.T)])
    count = int(linked.sum())
    labels = released_labels(first, second, count)
    return num_nodes - count + int((labels == torch.arange(count)).sum())


def _check_budget(retention: float) -> float:
    try:
        budget = float(retention)
    except (TypeError, ValueError):
        budget = float("nan")
    if not 0 < budget <= 1:
        raise ValueError(f"retention must be above 0 and at most 1 (0.3 keeps 30% of the tokens), got {retention!r}.")
    return budget
