"""DyCoke's first stage, frame by frame and patch by patch in float64. Written from the method's description alone."""

from __future__ import annotations

import numpy as np

from tests.core.methods.inputs import Reduced, cosine, kept_only


def dycoke(video: np.ndarray, kept: int, rules: str) -> Reduced:
    """Every reduced frame keeps ``kept`` patches."""
    frames, area = len(video), video.shape[1] * video.shape[2]
    flat = video.reshape(frames, area, -1)
    keeps: dict[int, list[int]] = {frame: list(range(area)) for frame in range(frames)}
    for frame in range(0, frames, 2):
        if frame + 1 < frames:
            keeps[frame + 1] = least_similar(flat[frame], flat[frame + 1], kept, rules)
    for frame in range(0, frames - 4, 4):
        keeps[frame + 2] = least_similar(flat[frame], flat[frame + 2], kept, rules)
    return kept_only([frame * area + patch for frame in range(frames) for patch in keeps[frame]])


def least_similar(before: np.ndarray, now: np.ndarray, kept: int, rules: str) -> list[int]:
    scores = [round(cosine(a, b), 12) for a, b in zip(before, now, strict=True)]
    order = sorted(range(len(scores)), key=lambda patch: scores[patch])[:kept]
    nothing_dropped = kept == len(scores)
    return sorted(order) if rules == "paper" or nothing_dropped else order


def reachable(frames: int, area: int) -> list[int]:
    """Tokens that are left for 0, 1, ... patches kept in every reduced frame."""
    reduced = {frame for frame in range(frames) if frame % 2}
    reduced |= {frame + 2 for frame in range(0, frames - 4, 4)}
    return [sum(kept if frame in reduced else area for frame in range(frames)) for kept in range(area + 1)]
