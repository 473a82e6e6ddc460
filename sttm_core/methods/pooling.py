"""Pooling: a control. Every frame's grid is averaged down to the same smaller one.

Each patch goes into one cell: row y of H into row ``y * h // H`` of h, columns alike; a token stands at the first
patch of its cell. A budget takes the largest smaller grid ``h x w`` within it that keeps the shape of the frame:
``h / H`` and ``w / W`` differ by no more than one patch of the shorter side. Of equally large ones the nearest to the
frame's shape is taken, then the one with more columns. The smallest grid is 1 x 1: T tokens are the floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch

from ..method import Method, Tables, TokenPlan, budget_count, check_retention
from .likeness import check_values


@dataclass(frozen=True)
class Pooling(Method):
    """Averages neighbouring patches of a frame.

    Attributes:
        retention: budget.

    Raises:
        ValueError: for a value out of range, in one sentence.
    """

    name: ClassVar[str] = "pooling"
    title: ClassVar[str] = "Average pooling"
    paper: ClassVar[str] = "a control, not published"

    retention: float = 0.5

    def __post_init__(self) -> None:
        check_retention(self.retention)

    def plan(self, tokens: torch.Tensor, tables: Tables | None = None) -> TokenPlan:
        frames, height, width = check_values(tokens).shape[:3]
        rows, columns = smaller_grid(height, width, budget_count(frames * height * width, self.retention) // frames)
        frame, y, x = (torch.arange(size, device=tokens.device) for size in (frames, height, width))
        cell_y, cell_x = y * rows // height, x * columns // width
        member_of = (frame[:, None, None] * rows + cell_y[:, None]) * columns + cell_x  # [T, H, W]
        first_y, first_x = (cell_starts(*sides, tokens.device) for sides in ((height, rows), (width, columns)))
        places = (frame[:, None, None] * height + first_y[:, None]) * width + first_x  # [T, h, w]
        return TokenPlan(self, places.flatten(), member_of)


def smaller_grid(height: int, width: int, limit: int) -> tuple[int, int]:
    """Rows and columns of the grid that a frame is pooled to: at most ``limit`` cells, see the module's text."""

    def unlike(rows: int, columns: int) -> int:
        return abs(rows * width - columns * height)

    allowed = [
        (rows, columns)
        for rows, columns in product(range(1, height + 1), range(1, width + 1))
        if rows * columns <= limit and unlike(rows, columns) <= max(height, width)
    ]
    return max(allowed, key=lambda grid: (grid[0] * grid[1], -unlike(*grid), grid[1]), default=(1, 1))


def cell_starts(length: int, cells: int, device: torch.device) -> torch.Tensor:
    """``[cells]``: first of ``length`` places that lies in each cell."""
    return (torch.arange(cells, device=device) * length + cells - 1) // cells
