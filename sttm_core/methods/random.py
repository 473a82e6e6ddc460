"""Random tokens: a control. Whatever a method keeps should answer more than as many tokens kept by lot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..method import Method, Tables, TokenPlan, budget_count, check_retention, check_whole
from .likeness import check_values


@dataclass(frozen=True)
class RandomTokens(Method):
    """Keeps patches by lot, drops the others.

    Attributes:
        retention: budget; any number of tokens can be reached.
        seed: of the lot. It depends on nothing but the seed and the number of patches; with the same seed a smaller
            budget keeps some of what a larger one keeps.

    Raises:
        ValueError: for a value out of range, in one sentence.
    """

    name: ClassVar[str] = "random"
    title: ClassVar[str] = "Random tokens"
    paper: ClassVar[str] = "a control, not published"

    retention: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        check_retention(self.retention)
        check_whole("seed", self.seed, 0)

    def plan(self, tokens: torch.Tensor, tables: Tables | None = None) -> TokenPlan:
        grid = check_values(tokens).shape[:3]
        generator = torch.Generator().manual_seed(self.seed % 2**63)  # on the CPU: the same lot for every device
        lot = torch.randperm(grid.numel(), generator=generator)
        places = lot[: budget_count(grid.numel(), self.retention)].sort().values
        return TokenPlan.keeping(self, places.to(tokens.device), tuple(grid))
