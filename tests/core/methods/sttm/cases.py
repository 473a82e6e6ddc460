"""The table that plans and merged tokens are compared over: grids, settings, and what the oracle says of each."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from tests.core import naive
from tests.core.videos import safe_threshold, smooth_video


class Case(NamedTuple):
    frames: int
    height: int
    width: int
    root_level: int
    rules: str
    weighting: str
    quantile: float  # of the similarities below which the thresholds lie

    def __str__(self) -> str:
        grid = f"{self.frames}x{self.height}x{self.width}"
        return f"{grid}-root{self.root_level}-{self.rules}-{self.weighting}-q{self.quantile}"


GRIDS = [
    (1, 1, 1, 1), (4, 1, 1, 0), (3, 1, 5, 1), (3, 5, 1, 0), (4, 2, 2, 0), (3, 2, 7, 1), (4, 3, 3, 0), (3, 3, 3, 1),
    (5, 4, 4, 0), (4, 5, 6, 0), (1, 9, 16, 0), (4, 9, 16, 1), (2, 3, 25, 0), (3, 12, 20, 1), (5, 14, 14, 1),
    (6, 14, 14, 0), (3, 14, 14, 3), (2, 27, 13, 1), (3, 27, 13, 0), (3, 11, 17, 2), (6, 8, 8, 0),
]  # fmt: skip

CASES = [
    Case(*grid, rules, weighting, quantile)
    for grid, rules, weighting, quantile in product(GRIDS, naive.RULES, naive.WEIGHTINGS, (0.3, 0.75))
]


@cache
def video_of(case: Case) -> np.ndarray:
    """The same video for all settings of one grid."""
    return smooth_video(GRIDS.index(case[:4]), *case[:3])


@cache
def thresholds_of(case: Case) -> tuple[float, float]:
    """tau_spatial and tau_temporal, at a safe distance from every similarity of the video."""
    _, _, _, root_level, rules, weighting, quantile = case
    video = video_of(case)
    inner = naive.child_minima(video, root_level, rules, weighting)
    cosines = naive.pair_cosines(video, root_level, weighting)
    pairs = np.array([cosines[:, a, b] for a, b in naive.nested_pairs(*video.shape[1:3], root_level)])
    wanted = [np.quantile(values, quantile) if values.size else 0.9 for values in (inner, pairs)]
    return safe_threshold(inner, min(wanted[0], 0.99)), safe_threshold(pairs, min(max(wanted[1], 0.3), 0.99))


@cache
def expected_of(case: Case) -> naive.NaiveMerge:
    return naive.merge(video_of(case), *thresholds_of(case), case.root_level, case.rules, case.weighting)
