"""The stacked Muon against PyTorch's own, matrix by matrix."""

from __future__ import annotations

import pytest
import torch

from demo_model.muon import StackedMuon, orthogonalised

SHAPES = ((6, 6), (12, 6), (6, 12), (6, 6), (12, 6))


def matrices(seed: int) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def steps(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter], count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        for p, gradient in zip(params, matrices(100 + number), strict=True):
            p.grad = gradient.detach().clone()
        params[1].grad = None if number == 1 else params[1].grad  # a matrix without gradient is left alone
        optimizer.step()


def test_equals_the_library_on_every_matrix():
    ours, theirs = matrices(0), matrices(0)
    muon = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95, ns_steps=5, adjust_lr_fn="original")
    steps(StackedMuon(ours, lr=0.02), ours, 4)
    steps(muon, theirs, 4)
    for one, two, start in zip(ours, theirs, matrices(0), strict=True):
        assert (one - two).abs().max() < 2e-3  # bfloat16 in the iteration
        assert (one - start).abs().max() > 0.01


def test_a_saved_state_goes_on_where_it_stopped():
    whole, parts = matrices(0), matrices(0)
    steps(StackedMuon(whole, lr=0.02), whole, 4)
    first = StackedMuon(parts, lr=0.02)
    steps(first, parts, 2)
    second = StackedMuon(parts, lr=0.02)
    second.load_state_dict(first.state_dict())
    steps(second, parts, 2, first=2)
    assert all(torch.equal(one, two) for one, two in zip(whole, parts, strict=True))


@pytest.mark.parametrize("shape", [(8, 8), (16, 8), (8, 16)])
def test_updates_are_near_orthogonal(shape):
    x = orthogonalised(torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))).float()
    values = torch.linalg.svdvals(x)
    assert values.min() > 0.4 and values.max() < 1.3


def test_vectors_are_refused():
    with pytest.raises(ValueError, match="matrices"):
        StackedMuon([torch.nn.Parameter(torch.zeros(3))], lr=0.1)
