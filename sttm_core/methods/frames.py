"""Fewer frames: a control. Whole frames at equal distances are kept, as if the video had been sampled more thinly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..method import Method, Tables, TokenPlan, budget_count, check_retention
from .likeness import check_values


@dataclass(frozen=True)
class FewerFrames(Method):
    """Keeps the middle frame of each of n equal stretches of the video, drops the others.

    Attributes:
        retention: budget; n is the largest number of frames within it, at least 1.

    Raises:
        ValueError: for a value out of range, in one sentence.
    """

    name: ClassVar[str] = "frames"
    title: ClassVar[str] = "Fewer frames"
    paper: ClassVar[str] = "a control, not published"

    retention: float = 0.5

    def __post_init__(self) -> None:
        check_retention(self.retention)

    def plan(self, tokens: torch.Tensor, tables: Tables | None = None) -> TokenPlan:
        frames, height, width = grid = tuple(check_values(tokens).shape[:3])
        area = height * width
        count = max(1, budget_count(frames * area, self.retention) // area)
        chosen = (2 * torch.arange(count, device=tokens.device) + 1) * frames // (2 * count)  # [n]
        places = chosen[:, None] * area + torch.arange(area, device=tokens.device)
        return TokenPlan.keeping(self, places.flatten(), grid)
