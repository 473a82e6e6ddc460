"""Ways to leave fewer video tokens before the merge layer: augmentation in training, rows of the evaluation's table.

Each function takes [B, T, G, G, D] and returns for every clip what is kept, in scan order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from demo_model.model import Kept


def random_tokens(keep: float, generator: torch.Generator, always: torch.Tensor | None = None) -> Callable:
    """Keep a random share of the tokens, but always those under a needle.

    Args:
        keep: share of all tokens.
        generator: on the device of the tokens.
        always: [B, T, G, G] bool, tokens never dropped.
    """

    def reduce(tokens: torch.Tensor) -> list[Kept]:
        batch, device = len(tokens), tokens.device
        flat = tokens.flatten(1, 3)  # [B, N, D]
        score = torch.rand(flat.shape[:2], generator=generator, device=device)
        if always is not None:
            score = score + always.flatten(1).to(score.dtype)
        count = max(1, round(keep * flat.shape[1]))
        chosen = score.topk(count, dim=1).indices.sort(dim=1).values  # [B, count]
        return [Kept(flat[b, chosen[b]], chosen[b]) for b in range(batch)]

    return reduce


def uniform_frames(keep: float) -> Callable:
    """Keep whole frames at equal distances."""

    def reduce(tokens: torch.Tensor) -> list[Kept]:
        frames = tokens.shape[1]
        count = max(1, round(keep * frames))
        chosen = ((torch.arange(count) + 0.5) * frames / count).long().to(tokens.device)
        places = torch.arange(tokens[0, ..., 0].numel(), device=tokens.device).view(frames, -1)[chosen].flatten()
        return [Kept(clip[chosen].flatten(0, 2), places) for clip in tokens]

    return reduce


def pooled_space(side: int) -> Callable:
    """Average each frame's grid down to ``side`` x ``side``; a token stands at the first patch of its cell."""

    def reduce(tokens: torch.Tensor) -> list[Kept]:
        planes = tokens.flatten(0, 1).permute(0, 3, 1, 2)  # [B*T, D, G, G]
        small = torch.nn.functional.adaptive_avg_pool2d(planes, side).permute(0, 2, 3, 1)
        frames, grid = tokens.shape[1:3]
        first = torch.arange(side, device=tokens.device) * grid // side
        frame = torch.arange(frames, device=tokens.device) * grid * grid
        places = (frame[:, None, None] + first[:, None] * grid + first).flatten()
        return [Kept(clip, places) for clip in small.reshape(len(tokens), -1, tokens.shape[-1])]

    return reduce


def merged(keep: float, rules: str = "paper", steps: int = 10) -> Callable:
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
        places = _places(plan) % tokens[0, ..., 0].numel()
        return [Kept(*pair) for pair in zip(plan.apply(joined).tokens.split(sizes), places.split(sizes), strict=True)]

    return reduce


def merged_to_budget(keep: float, rules: str = "paper", prefer: str = "temporal") -> Callable:
    """STTM merging of every clip by itself at the thresholds that the library finds for a budget, as the app does."""
    from sttm_core import Quadtree, similarity_tables, thresholds_for_retention

    def reduce(tokens: torch.Tensor) -> list[Kept]:
        kept = []
        for clip in tokens:
            with torch.autocast(tokens.device.type, enabled=False):
                tables = similarity_tables(clip.detach().float(), Quadtree(*clip.shape[1:3], 1))
            found = thresholds_for_retention(tables, keep, prefer=prefer, rules=rules)
            plan = tables.plan(found.tau_spatial, found.tau_temporal, rules)
            kept.append(Kept(plan.apply(clip).tokens, _places(plan)))
        return kept

    return reduce


def _places(plan) -> torch.Tensor:
    """[N] place of each token's top-left patch in scan order of the whole video."""
    frame, y, x = plan.boxes[:, :3].unbind(1)
    return (frame * plan.tree.height + y) * plan.tree.width + x


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
