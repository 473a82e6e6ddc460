"""FrameFusion (Fu et al., ICCV 2025, arXiv 2501.01986): frames are fused while they are alike, then attention prunes.

It is called before the first layer's attention and then between attention and MLP of every layer. A call *merges*:
each video token is compared with the one before it at the same patch, in the last earlier frame where one is left.
Those with a cosine of at least .6 are fused, in runs, into the token before the run: their mean takes its place. rho is
the share of tokens that go; cap is the share that must go if the remaining layers, all seeing the rest, are to meet the
cost. If rho >= cap, only the ``int(cap * tokens)`` most alike go, and all is done. If rho < .1, merging ends, and the
next call *prunes*: the ``round((1 - cap) * tokens)`` tokens that the last prompt token attends to most stay.

The published code knows models of 28 layers alone; here L is the model's own, and sums are exact. The cost is the mean
over layers of tokens present, not what is left in the end. Where the first call comes before a later layer (Qwen3-VL,
which adds features of the vision encoder behind its first ones), the layers before it count with all tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from ..budgets import KEPT, PrefixShape
from ..layer_method import LayerMethod, Look, Step, strongest
from ..method import check_finite, check_retention, check_share

ROUNDING = 1e-9  # of a token
TRIALS = 8  # runs at most in which a cost is looked for


@dataclass(frozen=True)
class FrameFusion(LayerMethod):
    """Merging along time in the early layers, then pruning by attention.

    Attributes:
        retention: budget of tokens kept in the end, used where ``cost`` is None: the cost for it is looked for in real
            runs, `TRIALS` of them at most.
        cost: as published (.50, .30, .20, .15): mean over all layers of video tokens present.
        similarity: tokens at least this alike are merged.
        ratio_floor: merging ends when a call merges less than this share.

    Raises:
        ValueError: for a value out of range, in one sentence.
    """

    name: ClassVar[str] = "framefusion"
    title: ClassVar[str] = "FrameFusion"
    paper: ClassVar[str] = "Fu et al., ICCV 2025, arXiv 2501.01986"
    merge_layer: ClassVar[int | None] = 0
    overrides: ClassVar[tuple[str, ...]] = ("cost",)

    retention: float = 0.5
    cost: float | None = None
    similarity: float = 0.6
    ratio_floor: float = 0.1

    def __post_init__(self) -> None:
        check_retention(self.retention)
        for name in ("cost", "similarity", "ratio_floor"):
            check_share(name, getattr(self, name))

    def step(self, look: Look) -> Step:
        count, room = len(look.places), self.room(look)
        if look.calls and self._merging_ended(look):
            return Step.keeping(strongest(look.attention(), max(1, round(room))), count, done=True)
        similar, before = similarities(look)  # [N] each
        merged = similar >= self.similarity
        if int(merged.sum()) < count - room - ROUNDING:
            return Step(fused(merged, before), done=False)
        merged = torch.zeros_like(merged)
        merged[strongest(similar, int(count - room + ROUNDING))] = True
        return Step(fused(merged, before), done=True)

    def room(self, look: Look) -> float:
        """Tokens that each of the remaining layers may see for the cost to be met: ``(1 - cap) * tokens``."""
        left = look.num_layers * self.cost * look.num_patches - sum(look.seen)
        return min(float(len(look.places)), max(0.0, left / (look.num_layers - len(look.seen))))

    def _merging_ended(self, look: Look) -> bool:
        """Whether the call before this one merged too little."""
        before = look.seen[-2] if len(look.seen) > 1 else look.num_patches
        return (before - len(look.places)) / before < self.ratio_floor

    def fit(
        self, shape: PrefixShape, share: float, budget: str, shares_of: Callable[[LayerMethod], Mapping[str, float]]
    ) -> FrameFusion:
        """By real runs, `TRIALS` at most: a whole token can't be split, and what is left in the end the video decides.

        The first run has the cost that the budget is in itself. Then the widest known gap is halved, or cut where a
        straight line through both ends meets the budget, in turn, until less than a token's share is missing.
        """
        share = check_retention(share)
        aim = replace(shape, merge_layer=0).kept_share(share, budget)  # if all layers saw as many
        low, high, token = (0.0, 0.0), (1.0, 1.0), 1 / shape.patches  # costs, and the shares that they come to
        cost = aim
        for trial in range(TRIALS):
            reached = shares_of(replace(self, cost=cost))[budget]
            low, high = ((cost, reached), high) if reached <= share else (low, (cost, reached))
            if low[0] and share - low[1] < token or high[0] - low[0] < token / 2:
                break
            cost = between(low, high, share) if trial % 2 == 0 else (low[0] + high[0]) / 2
        return replace(self, cost=low[0] or min(aim, token / 2))

    def ready(self, shape: PrefixShape, shares_of: Callable[[LayerMethod], Mapping[str, float]]) -> FrameFusion:
        return self if self.cost is not None else self.fit(shape, self.retention, KEPT, shares_of)


def between(low: tuple[float, float], high: tuple[float, float], share: float) -> float:
    """The cost at which a straight line through both (cost, share) meets ``share``, but not one of the ends."""
    part = (share - low[1]) / (high[1] - low[1]) if high[1] > low[1] else 0.5
    return low[0] + (high[0] - low[0]) * min(0.95, max(0.05, part))


def similarities(look: Look) -> tuple[torch.Tensor, torch.Tensor]:
    """``[N]`` float32 cosines of each token with the one before it at its patch, and which that is.

    The first token at a patch has -2, which is less than any cosine, and itself.
    """
    area = look.grid[1] * look.grid[2]
    order = (look.places % area).sort(stable=True).indices  # [N]: by patch, then by frame
    patch = (look.places % area)[order]
    wide = look.tokens[order].float()
    cosine = torch.cosine_similarity(wide[1:], wide[:-1], dim=-1, eps=1e-12)
    check_finite(cosine, look.tokens)
    follows = patch[1:] == patch[:-1]
    similar = torch.full((len(order),), -2.0, device=order.device)
    similar[order[1:]] = torch.where(follows, cosine, -2.0)
    before = order.clone()
    before[order] = order  # itself
    before[order[1:]] = torch.where(follows, order[:-1], order[1:])
    return similar, before


def fused(merged: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """``[N]`` int64: the token that each goes into, the last one before it at its patch that is not ``merged``."""
    into = torch.where(merged, before, torch.arange(len(merged), device=merged.device))
    while True:  # a run of n is followed in log2(n) rounds
        further = into[into]
        if further.equal(into):
            return into
        into = further
