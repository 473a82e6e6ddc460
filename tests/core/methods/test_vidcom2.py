"""VidCom2 against loops: scores, shares of frames, and a count that is exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sttm_core.methods import make_method
from sttm_core.methods.vidcom2 import kept_per_frame
from tests.core.methods import naive_vidcom2
from tests.core.methods.inputs import BUDGETS, GRIDS, assert_same, video_of


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_equals_loops(grid: tuple) -> None:
    for seed, retention in enumerate(BUDGETS):
        video = video_of("smooth", grid, seed)
        plan = make_method("vidcom2", retention=retention).plan(torch.from_numpy(video))
        allowed = math.floor(retention * math.prod(grid) + 1e-9)
        assert plan.num_tokens == max(grid[0], allowed)
        assert_same(plan, naive_vidcom2.vidcom2(video, retention, allowed), video)


@pytest.mark.parametrize("grid", [(5, 3, 3), (4, 5, 4)], ids=str)
def test_scores_and_shares_equal_loops(grid: tuple) -> None:
    video = video_of("smooth", grid, 3)
    tables = make_method("vidcom2").tables(torch.from_numpy(video))
    to_video, to_frame = naive_vidcom2.scores(video)
    np.testing.assert_allclose(tables.to_video.numpy(), to_video, rtol=2e-6)
    np.testing.assert_allclose(tables.to_frame.numpy(), to_frame, rtol=2e-6)
    for base in (0.15, 0.4, 0.9):
        assert kept_per_frame(tables.to_video, base).tolist() == naive_vidcom2.frame_counts(to_video, base)


def test_a_frame_unlike_the_others_keeps_more() -> None:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.ones(8, 6, 6, 16) + 0.3 * torch.randn(8, 6, 6, 16, generator=generator)
    tokens[5] = -tokens[5]
    counts = make_method("vidcom2", retention=0.25).plan(tokens).tokens_per_frame.tolist()
    assert counts[5] > 1.5 * max(counts[:5] + counts[6:])
