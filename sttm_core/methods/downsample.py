"""Fewer pixels: a control. Frames are made smaller before the vision encoder, whose grid of tokens shrinks with them.

Unlike all other methods this one makes the vision encoder cheaper, too, and every decoder layer sees the same few
tokens. A question that it answers right is an easy one. The video is encoded again (`VideoLLM.encode` with ``grid``);
towers of a fixed size interpolate their position embeddings. Shares are of the tokens that all pixels give.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from ..budgets import PrefixShape
from ..method import Method, TokenPlan, budget_count, check_retention
from .pooling import smaller_grid


@dataclass(frozen=True)
class Downsample(Method):
    """Encodes smaller frames.

    Attributes:
        retention: budget. The largest smaller grid ``h x w`` within it is taken: of the frame's shape as in `Pooling`
            where the model takes frames of any shape, else the largest square. The smallest is 1 x 1.

    Raises:
        ValueError: for a value out of range, in one sentence.
    """

    name: ClassVar[str] = "downsample"
    title: ClassVar[str] = "Fewer pixels"
    paper: ClassVar[str] = "a control, not published"
    acts_on: ClassVar[str] = "pixels"

    retention: float = 0.5

    def __post_init__(self) -> None:
        check_retention(self.retention)

    def fit(self, shape: PrefixShape, share: float, budget: str) -> Downsample:
        """The method with the knob by which ``budget`` comes to at most ``share``: all layers see the same tokens."""
        return replace(self, retention=replace(shape, merge_layer=0).kept_share(share, budget))

    def grid(self, full: tuple[int, int, int], square: bool) -> tuple[int, int]:
        """Rows and columns of tokens of a frame, in the place of ``full [T, H, W]``.

        Args:
            square: whether the model's frames are squares, always.
        """
        frames, height, width = full
        limit = budget_count(frames * height * width, self.retention) // frames
        if not square or limit >= height * width:
            return smaller_grid(height, width, limit)
        side = max(1, math.isqrt(limit))
        return side, side

    def record(self, full: tuple[int, int, int], grid: tuple[int, int]) -> TokenPlan:
        """Which token of ``grid [h, w]`` covers the centre of each patch of ``full [T, H, W]``; it is at the first."""
        frames, height, width = full
        rows, columns = grid
        cell_y = (2 * torch.arange(height) + 1) * rows // (2 * height)
        cell_x = (2 * torch.arange(width) + 1) * columns // (2 * width)
        member_of = (torch.arange(frames)[:, None, None] * rows + cell_y[:, None]) * columns + cell_x  # [T, H, W]
        flat = member_of.flatten()
        places = torch.full((frames * rows * columns,), flat.numel())
        places.scatter_reduce_(0, flat, torch.arange(flat.numel()), "amin")
        return TokenPlan(self, places, member_of)
