"""EVS against loops: what is kept, and how much."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from sttm_core.methods import make_method
from tests.core.methods import naive_evs
from tests.core.methods.inputs import BUDGETS, GRIDS, KINDS, assert_same, video_of


@pytest.mark.parametrize(("grid", "kind"), list(product(GRIDS, KINDS)), ids=lambda value: str(value))
def test_equals_loops(grid: tuple, kind: str) -> None:
    total = math.prod(grid)
    for seed, retention in enumerate(BUDGETS):
        video = video_of(kind, grid, seed)
        tokens = torch.from_numpy(video)
        expected = naive_evs.evs(video, math.floor(retention * total + 1e-9))
        assert_same(make_method("evs", retention=retention).plan(tokens), expected, video)
    for q in (0.0, 0.25, 0.6, 0.9, 1.0):
        assert_same(make_method("evs", q=q).plan(tokens), naive_evs.evs(video, int(total * (1 - q))), video)


def test_a_still_video_keeps_its_first_frame_and_then_the_earliest() -> None:
    tokens = torch.ones(4, 2, 3, 5)
    assert make_method("evs", retention=0.05).plan(tokens).places.tolist() == list(range(6))
    assert make_method("evs", retention=0.4).plan(tokens).places.tolist() == list(range(9))


def test_it_acts_before_the_decoder() -> None:
    assert make_method("evs").merge_layer == 0
