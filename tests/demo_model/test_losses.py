"""The auxiliary losses against values by hand and a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from demo_model.losses import (
    LOWEST_LIMIT,
    NEIGHBOUR_SCALE,
    PARENT_SCALE,
    common_share,
    dense_loss,
    neighbour_excess,
    parent_excess,
)


def test_losses_by_hand():
    same = torch.ones(1, 2, 4, 4, 3)
    assert common_share(same).item() == pytest.approx(1)
    spread = torch.eye(3)[torch.arange(3)].view(1, 1, 1, 3, 3)
    assert common_share(spread).item() == pytest.approx(1 / 3)
    logits, target = torch.zeros(1, 100, 4), torch.zeros(1, 100, dtype=torch.int64)
    target[0, 0] = 2  # one thing weighs as much as 99 tokens of background
    logits[0, 0, 1] = 50.0
    assert dense_loss(logits, target).item() == pytest.approx((50 + math.log(4)) / 2, rel=1e-3)


def test_spreading_losses_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 3, 5, 5, 8, generator=generator) + 0.8
    colours = torch.rand(2, 3, 5, 5, 12, generator=generator) * 0.1
    colours[:, 1] = colours[:, 0]

    def excess(one, two, own, other, scale: float) -> float:
        distance = math.sqrt(sum((a - b) ** 2 for a, b in zip(own.tolist(), other.tolist(), strict=True)) / 12)
        limit = max(LOWEST_LIMIT, math.exp(-distance / scale))
        return max(0.0, float(one @ two / (one.norm() * two.norm())) - limit) ** 2

    parents, neighbours = [], []
    for b, t, y, x in np.ndindex(2, 3, 5, 5):
        here = (b, t, y, x)
        if y < 4 and x < 4:
            block = (b, t, slice(y // 2 * 2, y // 2 * 2 + 2), slice(x // 2 * 2, x // 2 * 2 + 2))
            parent, shared = (planes[block].mean(dim=(0, 1)) for planes in (tokens, colours))
            parents.append(excess(tokens[here], parent, colours[here], shared, PARENT_SCALE))
        if t < 2:
            later = (b, t + 1, y, x)
            neighbours.append(excess(tokens[here], tokens[later], colours[here], colours[later], NEIGHBOUR_SCALE))
    assert sum(parents) > 0 and sum(neighbours) > 0
    assert parent_excess(tokens, colours).item() == pytest.approx(np.mean(parents), rel=1e-4)
    assert neighbour_excess(tokens, colours).item() == pytest.approx(np.mean(neighbours), rel=1e-4)
    assert neighbour_excess(tokens[:, :2], colours[:, :2]).item() == 0  # equal pictures may have equal tokens
    colours[:] = 0
    assert parent_excess(tokens, colours).item() == pytest.approx(0, abs=1e-9)


def test_spreading_lowers_the_cosines_of_what_looks_different_alone():
    colours = torch.zeros(1, 2, 2, 2, 12)
    colours[0, 1, :, 0] = 0.5  # the left half changes
    tokens = torch.ones(1, 2, 2, 2, 8) + torch.randn(1, 2, 2, 2, 8, generator=torch.Generator().manual_seed(0)) * 0.1
    tokens.requires_grad_()
    for _ in range(300):
        (gradient,) = torch.autograd.grad(neighbour_excess(tokens, colours), tokens)
        tokens = (tokens - gradient).detach().requires_grad_()
    cosines = torch.cosine_similarity(tokens[0, 0], tokens[0, 1], dim=-1)
    assert cosines[:, 0].max() < LOWEST_LIMIT + 0.02 and cosines[:, 1].min() > 0.95
