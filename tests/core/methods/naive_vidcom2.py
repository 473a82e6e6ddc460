"""VidCom2 patch by patch in float64, with the count made exact. Written from the method's description alone."""

from __future__ import annotations

import math

import numpy as np

from tests.core.methods.inputs import Reduced, kept_only


def scores(video: np.ndarray) -> tuple[list[list[float]], list[list[float]]]:
    """Similarity of every patch to the video's mean and to its frame's mean."""
    frames, channels = len(video), video.shape[-1]
    rows = video.reshape(-1, channels).astype(np.float64)
    variances = [sum((value - column.mean()) ** 2 for value in column) / len(column) for column in rows.T]
    steady = sorted(range(channels), key=lambda channel: variances[channel])[: max(1, channels // 2)]
    units = []
    for row in rows[:, steady]:
        length = math.sqrt(sum(value * value for value in row))
        units.append(row / length if length else row)
    area = len(units) // frames
    to_video, to_frame = [], []
    overall = sum(units) / len(units)
    for frame in range(frames):
        own = units[frame * area : (frame + 1) * area]
        middle = sum(own) / area
        to_video.append([kernel(unit, overall) for unit in own])
        to_frame.append([kernel(unit, middle) for unit in own])
    return to_video, to_frame


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    squared = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return sum(math.exp(-squared / (2 * alpha)) for alpha in (0.125, 0.25, 0.5, 1.0, 2.0))


def frame_counts(to_video: list[list[float]], base: float) -> list[int]:
    """Tokens of each frame before the count is made exact."""
    means = [sum(row) / len(row) for row in to_video]
    powers = [math.exp((min(means) - mean) / 0.01) for mean in means]
    shares = [power / sum(powers) for power in powers]
    rates = [min(1.0, base * (1 + share - sum(shares) / len(shares))) for share in shares]
    return [max(1, round(rate * len(to_video[0]))) for rate in rates]


def vidcom2(video: np.ndarray, base: float, count: int) -> Reduced:
    """``count`` tokens, or one a frame where that is more."""
    to_video, to_frame = scores(video)
    area, counts = len(to_video[0]), frame_counts(to_video, base)
    kept: set[int] = set()
    always: set[int] = set()
    usual: dict[int, float] = {}
    for frame, (first, second) in enumerate(zip(to_video, to_frame, strict=True)):
        sums = {frame * area + patch: a + b for patch, (a, b) in enumerate(zip(first, second, strict=True))}
        order = sorted(sums, key=sums.__getitem__)
        kept.update(order[: counts[frame]])
        always.add(order[0])
        usual.update(sums)
    count = max(len(video), count)
    while len(kept) > count:
        kept.remove(max(kept - always, key=usual.__getitem__))
    while len(kept) < count:
        kept.add(min(set(usual) - kept, key=usual.__getitem__))
    return kept_only(sorted(kept))
