"""DyCoke, first stage (Tao et al., CVPR 2025, arXiv 2411.15024): patches that repeat an earlier frame are dropped.

Windows of four frames. In each pair of frames (0, 1), (2, 3), ... the second keeps the k patches that are least similar
to the same patch of the first. Then frame 2 of a window keeps the k patches least similar to frame 0 of it; the last
window is left out of this second step, as in the released code. Nothing is averaged.

Three quarters of the frames at most are reduced, so a quarter of the tokens always stays, and more where the clip is
short: budgets below that can't be reached. A plan then keeps the least that the method can, and its ``retention`` says
how much that is. Published budgets of "50%" and "30%" (prune ratios .7 and .925) keep 47.7% and 31.1% of 128 frames.

The released code (``rules="as_released"``) leaves the patches of a reduced frame in ascending order of their cosines;
``rules="paper"`` sorts them to scan order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..method import Method, TokenPlan, budget_count, check_retention, check_rules, check_share, check_tokens
from .likeness import frame_cosines

WINDOW = 4


@dataclass(frozen=True, eq=False)
class DycokeTables:
    """``cosines [R, H*W]`` float32: of each reduced frame with the frame that it is compared with."""

    cosines: torch.Tensor

    @property
    def nbytes(self) -> int:
        return self.cosines.nbytes


@dataclass(frozen=True)
class Dycoke(Method):
    """Temporal pruning in windows of four frames.

    Attributes:
        retention: budget, used where ``ratio`` is None.
        ratio: the published prune ratio: a reduced frame keeps ``int((1 - ratio) * H * W)`` patches.
        rules: ``"paper"``, or ``"as_released"`` for the order of tokens in the released code.

    Raises:
        ValueError: for a value out of range, in one sentence.
    """

    name: ClassVar[str] = "dycoke"
    title: ClassVar[str] = "DyCoke"
    paper: ClassVar[str] = "Tao et al., CVPR 2025, arXiv 2411.15024"
    overrides: ClassVar[tuple[str, ...]] = ("ratio",)

    retention: float = 0.5
    ratio: float | None = None
    rules: str = "paper"

    def __post_init__(self) -> None:
        check_retention(self.retention)
        check_share("ratio", self.ratio)
        check_rules(self.rules)

    def tables(self, tokens: torch.Tensor) -> DycokeTables:
        """The cosines that every ratio needs: one pass over the features."""
        return DycokeTables(frame_cosines(tokens, reduced_frames(len(check_tokens(tokens)))))

    def plan(self, tokens: torch.Tensor, tables: DycokeTables | None = None) -> TokenPlan:
        cosines = (self.tables(tokens) if tables is None else tables).cosines
        frames, height, width = tokens.shape[:3]
        kept = self.kept_per_frame(frames, height, width)
        order = torch.arange(height * width, device=tokens.device).repeat(frames, 1)  # [T, H*W] patches; -1 is dropped
        if kept < height * width:
            reduced = [later for _, later in reduced_frames(frames)]
            least = cosines.argsort(dim=1, stable=True)[:, :kept]  # [R, k]
            order[reduced, :kept] = least.sort(dim=1).values if self.rules == "paper" else least
            order[reduced, kept:] = -1
        places = order + torch.arange(frames, device=tokens.device)[:, None] * (height * width)
        return TokenPlan.keeping(self, places[order >= 0], tokens.shape[:3])

    def kept_per_frame(self, frames: int, height: int, width: int) -> int:
        """Patches that each reduced frame keeps; the budget's is the largest within it, or 0."""
        if self.ratio is not None:
            return int((1 - self.ratio) * height * width)
        area, reduced = height * width, len(reduced_frames(frames))
        left = budget_count(frames * area, self.retention) - (frames - reduced) * area
        return min(area, max(0, left // max(1, reduced)))


def reduced_frames(frames: int) -> list[tuple[int, int]]:
    """Pairs (frame that stays as it is in this step, frame that is reduced by comparison with it)."""
    first = [(frame, frame + 1) for frame in range(0, frames - 1, 2)]
    return first + [(frame, frame + 2) for frame in range(0, frames - WINDOW, WINDOW)]
