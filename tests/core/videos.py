"""Inputs on which merging has something to do, and thresholds that rounding cannot push across a similarity."""

from __future__ import annotations

import numpy as np


def blocky(rng: np.random.Generator, shape: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Noise that is constant on blocks of `size` patches a side at a random offset: `[T, H, W, C]`."""
    frames, height, width, channels = shape
    coarse = rng.normal(size=(frames, height // size + 2, width // size + 2, channels))
    dy, dx = rng.integers(0, size, size=2)
    return coarse.repeat(size, axis=1).repeat(size, axis=2)[:, dy : dy + height, dx : dx + width]


def smooth_video(seed: int, frames: int, height: int, width: int, channels: int = 12) -> np.ndarray:
    """Features float32 `[T, H, W, C]`: structure at several scales that drifts, detail in some places only."""
    rng = np.random.default_rng(seed)
    shape = (frames, height, width, channels)
    still = (1, *shape[1:])
    scene = sum(weight * blocky(rng, still, size) for size, weight in ((8, 1.0), (4, 0.6), (2, 0.4)))
    drift = np.cumsum(0.25 * blocky(rng, shape, 4), axis=0)
    detail = rng.normal(size=shape) * 0.5 * (blocky(rng, (*shape[:3], 1), 3) > 0.6)
    noise = 0.08 * rng.normal(size=shape)
    return (1.0 + scene + drift + detail + noise).astype(np.float32)


def safe_threshold(values: np.ndarray, wanted: float, margin: float = 1e-5) -> float:
    """The threshold nearest to `wanted` that is at least `margin` away from every value."""
    ordered = np.unique(np.concatenate([[-3.0, 3.0], np.ravel(values)]))
    low, high = ordered[:-1] + margin, ordered[1:] - margin
    nearest = np.clip(wanted, low, np.maximum(low, high))[high > low]
    return float(nearest[np.abs(nearest - wanted).argmin()])
