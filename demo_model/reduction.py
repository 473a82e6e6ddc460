"""Ways to leave fewer video tokens before the merge layer: augmentation in training, rows of the evaluation's table.

Each function takes [B, T, G, G, D] and returns for every clip its tokens [N_b, D], in scan order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch


def random_tokens(keep: float, generator: torch.Generator, always: torch.Tensor | None = None) -> Callable:
    """Keep a random share of the tokens, but always those under a needle.

    Args:
        keep: share of all tokens.
        generator: on the device of the tokens.
        always: [B, T, G, G] bool, tokens never dropped.
    """

    def reduce(tokens: torch.Tensor) -> list[torch.Tensor]:
        batch, device = len(tokens), tokens.device
        flat = tokens.flatten(1, 3)  # [B, N, D]
        score = torch.rand(flat.shape[:2], generator=generator, device=device)
        if always is not None:
            score = score + always.flatten(1).to(score.dtype)
        count = max(1, round(keep * flat.shape[1]))
        chosen = score.topk(count, dim=1).indices.sort(dim=1).values  # [B, count]
        return [flat[b, chosen[b]] for b in range(batch)]

    return reduce


def uniform_frames(keep: float) -> Callable:
    """Keep whole frames at equal distances."""

    def reduce(tokens: torch.Tensor) -> list[torch.Tensor]:
        frames = tokens.shape[1]
        count = max(1, round(keep * frames))
        chosen = ((torch.arange(count) + 0.5) * frames / count).long().to(tokens.device)
        return [clip[chosen].flatten(0, 2) for clip in tokens]

    return reduce


def pooled_space(side: int) -> Callable:
    """Average each frame's grid down to ``side`` x ``side``."""

    def reduce(tokens: torch.Tensor) -> list[torch.Tensor]:
        planes = tokens.flatten(0, 1).permute(0, 3, 1, 2)  # [B*T, D, G, G]
        small = torch.nn.functional.adaptive_avg_pool2d(planes, side).permute(0, 2, 3, 1)
        return list(small.reshape(len(tokens), -1, tokens.shape[-1]))

    return reduce


def merged(keep: float, rules: str = "paper", steps: int = 10) -> Callable:
    """STTM merging of the whole batch at the one threshold (tau_T = tau_S) that leaves about ``keep`` of its tokens.

    As with a fixed threshold in use, busy clips keep more than calm ones. The threshold is found by halving ``steps``
    times. The plan is made without gradients; the averaging is differentiable.
    """
    from sttm_core import Quadtree, similarity_tables

    def reduce(tokens: torch.Tensor) -> list[torch.Tensor]:
        batch, frames = tokens.shape[:2]
        joined = tokens.flatten(0, 1)  # [B*T, G, G, D]: one long video
        tables = similarity_tables(joined.detach().float(), Quadtree(*tokens.shape[2:4], 1))
        plan = plan_at_retention(_apart(tables, frames), keep, rules, steps)
        sizes = torch.bincount(plan.boxes[:, 0] // frames, minlength=batch)
        return list(plan.apply(joined).tokens.split(sizes.tolist()))

    return reduce


def _apart(tables, frames: int):
    """The same tables without likeness between the last frame of a clip and the first of the next: no link there."""
    cosines = tables.pair_cosines.clone()
    cosines[frames - 1 :: frames] = -2.0
    return replace(tables, pair_cosines=cosines)


def plan_at_retention(tables, keep: float, rules: str = "paper", steps: int = 10):
    """Bisect one threshold for both stages until the plan keeps about ``keep`` of the tokens."""
    low, high = 0.0, 1.0
    for _ in range(steps):
        tau = (low + high) / 2
        plan = tables.plan(tau, tau, rules)
        low, high = (low, tau) if plan.retention > keep else (tau, high)
    return plan
