"""ToMe (Bolya et al., ICLR 2023, arXiv 2210.09461) over a whole video: the most similar half finds partners and merges.

All tokens of the video are one list. A round puts those at even places into set A and those at odd places into set B.
Each of A finds the token of B with the highest cosine over the full hidden state. The r pairs with the highest cosines
merge: a token becomes the mean of all its patches and stands where its token of B stood. A round removes at most half
of the list; rounds follow until the wanted number is left.

``rules="paper"`` keeps the list in scan order, from round to round and at the end. The code released with STTM's
comparison (``rules="as_released"``) does not: a round leaves the unmerged part of A, in descending order of its
cosines, and then all of B; the next round takes every other token of that list, and the model gets the tokens so.

A cosine matrix of 128 frames of 196 patches has 157 million entries. It is never held: a running maximum goes over
blocks of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..method import (
    Method,
    Tables,
    TokenPlan,
    budget_count,
    check_retention,
    check_rules,
    check_share,
    count_values,
    sum_members,
)  # fmt: skip
from .likeness import squared_norms

BLOCK = 4096  # tokens of A, and of B, that are compared at a time


@dataclass(frozen=True)
class Tome(Method):
    """Bipartite merging over the whole video.

    Attributes:
        retention: budget, used where ``ratio`` is None; any number of tokens can be reached.
        ratio: the published prune ratio: ``ceil(N * (1 - ratio))`` tokens are kept.
        rules: ``"paper"``, or ``"as_released"`` for the order of tokens in the released code.

    Raises:
        ValueError: for a value out of range, in one sentence.
    """

    name: ClassVar[str] = "tome"
    title: ClassVar[str] = "ToMe"
    paper: ClassVar[str] = "Bolya et al., ICLR 2023, arXiv 2210.09461"
    overrides: ClassVar[tuple[str, ...]] = ("ratio",)

    retention: float = 0.5
    ratio: float | None = None
    rules: str = "paper"

    def __post_init__(self) -> None:
        check_retention(self.retention)
        check_share("ratio", self.ratio)
        check_rules(self.rules)

    def plan(self, tokens: torch.Tensor, tables: Tables | None = None) -> TokenPlan:
        squared_norms(tokens)  # looks for what is not finite
        patches = tokens.reshape(-1, tokens.shape[-1])  # [T*H*W, C]
        token = places = torch.arange(len(patches), device=tokens.device)
        features, count = patches, self.count(len(patches))
        while len(places) > count:
            removed = min(len(places) // 2, len(places) - count)
            stay, into = one_round(features, removed, in_order=self.rules == "paper")
            token, places = into[token], places[stay]
            if len(places) > count:
                features = mean_features(patches, token, len(places))
        return TokenPlan(self, places, token.view(tokens.shape[:3]))

    def count(self, num_patches: int) -> int:
        """Tokens that are kept."""
        if self.ratio is None:
            return budget_count(num_patches, self.retention)
        return max(1, math.ceil(num_patches * (1 - self.ratio)))


def one_round(features: torch.Tensor, removed: int, in_order: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Merge the ``removed`` most similar of A into B, from ``features [n, C]``.

    Args:
        in_order: whether the list stays in its order; else what is left of A comes first, by falling cosine, then B.

    Returns:
        ``stay [n - removed]``, the old place of each new token, and ``into [n]``, the new place of each old token.
    """
    cosines, partners = best_partners(features[0::2], features[1::2])
    order = cosines.argsort(descending=True, stable=True)
    merged, left = order[:removed] * 2, order[removed:] * 2
    stay = torch.cat([left, torch.arange(1, len(features), 2, device=features.device)])
    stay = stay.sort().values if in_order else stay
    into = torch.empty(len(features), dtype=torch.int64, device=features.device)
    into[stay] = torch.arange(len(stay), device=features.device)
    into[merged] = into[partners[order[:removed]] * 2 + 1]
    return stay, into


def best_partners(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Highest cosine of each of ``first [a, C]`` with any of ``second [b, C]``, and which it is (the first such)."""
    parts = [_best_of_block(_unit(block), second) for block in first.split(BLOCK)]
    cosines, partners = zip(*parts, strict=True)
    return torch.cat(cosines), torch.cat(partners)


def _best_of_block(block: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    best = block.new_full((len(block),), -math.inf)
    partner = torch.zeros(len(block), dtype=torch.int64, device=block.device)
    for start, others in zip(range(0, len(second), BLOCK), second.split(BLOCK), strict=True):
        value, at = (block @ _unit(others).T).max(dim=1)
        better = value > best
        best, partner = torch.where(better, value, best), torch.where(better, at + start, partner)
    return best, partner


def _unit(rows: torch.Tensor) -> torch.Tensor:
    """``rows [n, C]`` at length 1, float32; zero stays zero."""
    wide = rows.float()
    return wide / wide.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


def mean_features(patches: torch.Tensor, token: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """``[num_tokens, C]``: mean of the ``patches [P, C]`` of each token, in at least float32."""
    return sum_members(patches, token, count_values(token, num_tokens).float().reciprocal()[token], num_tokens)
