"""The table that token methods are compared over: grids, budgets and videos; and what every comparison looks at."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from sttm_core.method import Plan
from tests.core.videos import smooth_video

GRIDS = [
    (1, 1, 1), (1, 1, 7), (4, 1, 6), (3, 6, 1), (2, 2, 2), (1, 3, 5), (5, 3, 3), (3, 4, 6), (4, 5, 4), (5, 2, 3),
    (9, 2, 2), (2, 14, 14),
]  # fmt: skip
BUDGETS = [1.0, 0.85, 0.5, 0.3, 0.15, 0.01]
KINDS = ["smooth", "ties"]


class Reduced(NamedTuple):
    """What an oracle returns: the place of each token in output order, and the flat patches that went into it."""

    places: list[int]
    members: list[list[int]]


def video_of(kind: str, grid: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Features float32 ``[T, H, W, C]``.

    ``"ties"`` holds four numbers of 1 or -1 a patch: norms are 2 and cosines multiples of a half, all of them exact in
    float32, so that most scores are shared by many patches.
    """
    if kind == "smooth":
        return smooth_video(seed, *grid)
    return np.random.default_rng(seed).choice([-1.0, 1.0], size=(*grid, 4)).astype(np.float32)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """In float64; 0 where a vector is zero."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    scale = np.sqrt(a @ a) * np.sqrt(b @ b)
    return float(a @ b / scale) if scale > 0 else 0.0


def kept_only(places: list[int]) -> Reduced:
    """What a method returns that keeps patches and drops the others."""
    return Reduced(places, [[place] for place in places])


def assert_same(plan: Plan, expected: Reduced, video: np.ndarray) -> None:
    """Equal places in their order, equal members, and features equal to the mean of the members."""
    assert plan.places.tolist() == expected.places
    member_of = plan.member_of.flatten().tolist()
    found: list[list[int]] = [[] for _ in expected.places]
    for patch, token in enumerate(member_of):
        if token >= 0:
            found[token].append(patch)
    assert found == [sorted(members) for members in expected.members]
    flat = video.reshape(-1, video.shape[-1]).astype(np.float64)
    means = np.array([flat[members].mean(axis=0) for members in expected.members])
    merged = plan.apply(torch.from_numpy(video)).tokens
    np.testing.assert_allclose(merged.numpy(), means, rtol=1e-5, atol=1e-5)
