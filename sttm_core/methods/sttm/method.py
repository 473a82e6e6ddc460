"""STTM as one of the methods: its knobs, its tables, its plan by thresholds or by a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from ...method import Method, check_retention, check_tokens
from .budget import EXPONENTS, thresholds_for_retention
from .merge import plan_of
from .plan import RULES, MergePlan
from .quadtree import shared_tree
from .similarity import WEIGHTINGS, SimilarityTables, similarity_tables

MAX_TAU = 2.0  # cosines end at 1; anything above merges nothing


@dataclass(frozen=True)
class Sttm(Method):
    """A quadtree in space, chains through time (Hyun et al., section 3).

    Attributes:
        tau_spatial, tau_temporal: thresholds, used where ``retention`` is None.
        retention: budget; the thresholds are then found for each video.
        rules: ``"paper"``; ``"as_released"`` for the two deviations of the authors' code; ``"bottom_up"``, ours, keeps
            a node only if the nodes below it could be kept too.
        root_level: coarsest quadtree grids that are not used.
        weighting: ``"nodes"`` averages children and members alike, ``"patches"`` by the patches that they cover.
        prefer: which threshold a budget lets fall first: ``"balanced"``, ``"spatial"`` or ``"temporal"``.

    Raises:
        ValueError: for a value out of range, in one sentence.
    """

    name: ClassVar[str] = "sttm"
    title: ClassVar[str] = "STTM"
    paper: ClassVar[str] = "Hyun et al., ICCV 2025, arXiv 2507.07990"

    tau_spatial: float = 0.85
    tau_temporal: float = 0.65
    retention: float | None = None
    rules: str = "paper"
    root_level: int = 1
    weighting: str = "nodes"
    prefer: str = "balanced"

    def __post_init__(self) -> None:
        for name, symbol in (("tau_spatial", "spatial threshold τ_S"), ("tau_temporal", "temporal threshold τ_T")):
            value = getattr(self, name)
            if not math.isfinite(value) or not -1.0 <= value <= MAX_TAU:
                raise ValueError(f"The {symbol} must lie between -1 and {MAX_TAU:g}, got {value:g}.")
        if self.retention is not None:
            check_retention(self.retention)
        if self.root_level < 0:
            raise ValueError(f"The root level must be at least 0, got {self.root_level}.")
        for value, known, wanted in (
            (self.rules, RULES, "The rules must be one of"),
            (self.weighting, WEIGHTINGS, "The weighting must be one of"),
            (self.prefer, tuple(EXPONENTS), "A budget may prefer"),
        ):
            if value not in known:
                raise ValueError(f"{wanted} {', '.join(known)}, got {value!r}.")

    @property
    def tables_key(self) -> tuple:
        return (self.name, self.root_level, self.weighting)

    def tables(self, tokens: torch.Tensor) -> SimilarityTables:
        """Every cosine that any thresholds will need: one pass over the features."""
        grid = check_tokens(tokens).shape[1:3]
        return similarity_tables(tokens, shared_tree(*grid, self.root_level), weighting=self.weighting)

    def plan(self, tokens: torch.Tensor, tables: SimilarityTables | None = None) -> MergePlan:
        if self.retention is not None:
            tables = self.tables(tokens) if tables is None else tables
            return self.for_retention(tokens, self.retention, tables).plan(tokens, tables)
        if tables is not None:
            return tables.plan(self.tau_spatial, self.tau_temporal, self.rules)
        how = {"root_level": self.root_level, "rules": self.rules, "weighting": self.weighting}
        return plan_of(tokens, self.tau_spatial, self.tau_temporal, **how)

    def for_retention(self, tokens: torch.Tensor, retention: float, tables: SimilarityTables | None = None) -> Sttm:
        tables = self.tables(tokens) if tables is None else tables
        found = thresholds_for_retention(tables, retention, prefer=self.prefer, rules=self.rules)
        return replace(self, tau_spatial=found.tau_spatial, tau_temporal=found.tau_temporal, retention=None)
