"""The controls: random tokens, fewer frames and pooling, against loops and by what they promise."""

from __future__ import annotations

import math

import pytest
import torch

from sttm_core.methods import make_method
from tests.core.methods import naive_trivial
from tests.core.methods.inputs import BUDGETS, GRIDS, assert_same, video_of

MORE = [(3, 9, 16), (2, 14, 14), (5, 13, 27), (7, 2, 9)]


@pytest.mark.parametrize("name", ["frames", "pooling"])
@pytest.mark.parametrize("grid", GRIDS + MORE, ids=str)
def test_equals_loops(grid: tuple, name: str) -> None:
    video = video_of("smooth", grid)
    for retention in BUDGETS:
        allowed = max(1, math.floor(retention * math.prod(grid) + 1e-9))
        plan = make_method(name, retention=retention).plan(torch.from_numpy(video))
        assert_same(plan, getattr(naive_trivial, name)(grid, allowed), video)


@pytest.mark.parametrize(
    ("retention", "sides"), [(0.5, (9, 10)), (0.3, (7, 8)), (0.2, (6, 6)), (0.1, (4, 4)), (0.001, (1, 1))]
)
def test_pooled_grids_keep_their_shape(retention: float, sides: tuple[int, int]) -> None:
    plan = make_method("pooling", retention=retention).plan(torch.ones(2, 14, 14, 3))
    assert plan.tokens_per_frame.tolist() == [math.prod(sides)] * 2


def test_random_tokens_follow_their_seed_alone() -> None:
    tokens = torch.randn(4, 5, 6, 3, generator=torch.Generator().manual_seed(0))
    places = {seed: make_method("random", seed=seed, retention=0.4).plan(tokens).places for seed in range(4)}
    torch.manual_seed(5)
    again = make_method("random", seed=2, retention=0.4).plan(torch.ones(4, 5, 6, 3))
    assert again.places.equal(places[2])
    assert len({tuple(chosen.tolist()) for chosen in places.values()}) == 4
    fewer = make_method("random", seed=2, retention=0.1).plan(tokens)
    assert set(fewer.places.tolist()) <= set(places[2].tolist())


def test_every_patch_is_as_likely() -> None:
    tokens = torch.ones(1, 4, 5, 1)
    counts = torch.zeros(20)
    for seed in range(2000):
        counts[make_method("random", seed=seed, retention=0.5).plan(tokens).places] += 1
    assert (counts - 1000).abs().max() < 5 * math.sqrt(2000 * 0.25)


@pytest.mark.parametrize("seed", [-1, 1.5, "7"])
def test_a_seed_is_a_whole_number(seed: object) -> None:
    with pytest.raises(ValueError, match="seed must be a whole number"):
        make_method("random", seed=seed)
