"""Rotary positions of the shortened sequence (algorithm, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .decoder import RotaryEmbeddings
from .method import Plan

POSITION_RULES = ("reassigned", "survived", "merged")


@dataclass(frozen=True, eq=False)
class Positions:
    """Rotary embeddings of a sequence of N tokens, and the position that the token after it gets.

    Attributes:
        embeddings: cos and sin, ``[..., N, head_dim]``.
        next: position of the next text token in these layers.
    """

    embeddings: RotaryEmbeddings
    next: int


def check_rule(rule: str) -> str:
    """``rule`` itself, or ValueError naming the rules that exist."""
    if rule not in POSITION_RULES:
        raise ValueError(f"the position rule must be one of {', '.join(POSITION_RULES)}, got {rule!r}.")
    return rule


def shortened_positions(
    rule: str,
    full: Positions,
    source: torch.Tensor,
    merged_at: torch.Tensor,
    video_index: torch.Tensor,
    plan: Plan,
    rotary: Callable[[torch.Tensor], RotaryEmbeddings],
) -> Positions:
    """Positions after merging.

    Args:
        rule: ``"reassigned"`` (0..n-1 over the shortened sequence), ``"survived"`` (each merged token keeps the
            position of its representative's top-left patch) or ``"merged"`` (cos and sin averaged like the features).
        full: positions of the full sequence of S tokens.
        source: ``[n]`` place in the full sequence where each token of the shortened one stood.
        merged_at: ``[N]`` places in the shortened sequence of the merged tokens.
        video_index: ``[T, H, W]`` place of each patch in the full sequence.
        plan: what was merged.
        rotary: cos and sin for ``[n]`` position numbers, used by ``"reassigned"``.

    Raises:
        ValueError: for an unknown rule.
    """
    if check_rule(rule) == "reassigned":
        return Positions(rotary(torch.arange(len(source), device=source.device)), len(source))
    survived = tuple(part.index_select(-2, source.to(part.device)) for part in full.embeddings)
    if rule == "merged":
        survived = tuple(
            _merged(whole, short.clone(), merged_at.to(whole.device), video_index.to(whole.device), plan)
            for whole, short in zip(full.embeddings, survived, strict=True)
        )
    return Positions(survived, full.next)


def _merged(
    whole: torch.Tensor, short: torch.Tensor, merged_at: torch.Tensor, video_index: torch.Tensor, plan: Plan
) -> torch.Tensor:
    """``short`` with the rows of merged tokens replaced by the weighted mean over their patches' rows of ``whole``."""
    weights = plan.share.to(whole.device, torch.float32)
    patches = whole.index_select(-2, video_index.reshape(-1)).float() * weights[:, None]  # [..., T*H*W, head_dim]
    mean = torch.zeros(*whole.shape[:-2], plan.num_tokens, whole.shape[-1], device=whole.device)
    mean.index_add_(-2, plan.member_of.reshape(-1).clamp(min=0).to(whole.device), patches)  # dropped ones weigh nothing
    short[..., merged_at, :] = mean.to(short.dtype)
    return short
