"""Fewer video tokens before a layer: two augmentations for whole batches in training, and every method of the library.

Each function makes one that takes [B, T, G, G, D] and returns for every clip what is kept and where it stands.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from demo_model.model import Kept, Reduce

if TYPE_CHECKING:  # training without merging needs no more than torch
    from sttm_core.settings import RunSettings


def by_method(settings: RunSettings) -> Reduce:
    """What a method of the library leaves of every clip by itself, as in the app.

    The plan is made without gradients and in full precision; the averaging is differentiable.
    """

    def reduce(tokens: torch.Tensor) -> list[Kept]:
        kept = []
        for clip in tokens:
            with torch.autocast(clip.device.type, enabled=False):  # cosines near 1 need all digits
                plan = settings.plan(clip.detach().float(), None)
            kept.append(Kept(plan.apply(clip).tokens, plan.places))
        return kept

    return reduce


def random_tokens(keep: float, generator: torch.Generator, always: torch.Tensor) -> Reduce:
    """Keep a random share of a batch's tokens, but always those under a needle: no question loses its answer.

    Args:
        keep: share of all tokens.
        generator: on the device of the tokens.
        always: [B, T, G, G] bool, tokens never dropped.
    """

    def reduce(tokens: torch.Tensor) -> list[Kept]:
        batch, device = len(tokens), tokens.device
        flat = tokens.flatten(1, 3)  # [B, N, D]
        score = torch.rand(flat.shape[:2], generator=generator, device=device)
        score = score + always.flatten(1).to(score.dtype)
        count = max(1, round(keep * flat.shape[1]))
        chosen = score.topk(count, dim=1).indices.sort(dim=1).values  # [B, count]
        return [Kept(flat[b, chosen[b]], chosen[b]) for b in range(batch)]

    return reduce


def merged(keep: float, rules: str = "paper", steps: int = 10) -> Reduce:
    """STTM merging of the whole batch at the one threshold (tau_T = tau_S) that leaves about ``keep`` of its tokens.

    As with a fixed threshold in use, busy clips keep more than calm ones. The threshold is found by halving ``steps``
    times. The plan is made without gradients; the averaging is differentiable.
    """
    from sttm_core import Quadtree, similarity_tables

    def reduce(tokens: torch.Tensor) -> list[Kept]:
        batch, frames = tokens.shape[:2]
        joined = tokens.flatten(0, 1)  # [B*T, G, G, D]: one long video
        with torch.autocast(tokens.device.type, enabled=False):  # cosines near 1 need all digits
            tables = similarity_tables(joined.detach().float(), Quadtree(*tokens.shape[2:4], 1))
        plan = plan_at_retention(_apart(tables, frames), keep, rules, steps)
        sizes = torch.bincount(plan.boxes[:, 0] // frames, minlength=batch).tolist()
        places = plan.places % tokens[0, ..., 0].numel()
        return [Kept(*pair) for pair in zip(plan.apply(joined).tokens.split(sizes), places.split(sizes), strict=True)]

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
