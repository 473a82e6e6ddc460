"""Which thresholds are worth a slider for one video: how close cosines lie to 1 differs widely between models."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from sttm_core import SimilarityTables

STEPS = 200
LOW_QUANTILE = 0.05
MOST_VALUES = 2**20  # enough for a quantile, and fast


def threshold_ranges(
    tables: SimilarityTables, tau_spatial: float | None = None, tau_temporal: float | None = None
) -> dict[str, dict[str, float]]:
    """``{"tauSpatial": {min, max, step}, "tauTemporal": ..., "start": {"tauSpatial", "tauTemporal"}}`` for sliders.

    A range begins at the lowest 5% of the video's cosines and ends one step above 1, where nothing merges any more.
    The start is the threshold given, or else the median cosine; a range is widened to hold it.
    """
    spatial, start_spatial = _slider(tables.child_min, tau_spatial)
    temporal, start_temporal = _slider(tables.pair_cosines, tau_temporal)
    start = {"tauSpatial": start_spatial, "tauTemporal": start_temporal}
    return {"tauSpatial": spatial, "tauTemporal": temporal, "start": start}


def _slider(cosines: torch.Tensor, start: float | None) -> tuple[dict[str, float], float]:
    low, middle = _quantiles(cosines)
    low = min(max(low, 0.0), 0.99, 1.0 if start is None else start)
    step = _round_step((1.0 - low) / STEPS)
    digits = math.ceil(-math.log10(step) - 1e-9)
    minimum = round(math.floor(low / step + 1e-9) * step, digits)
    begin = round(round(middle / step) * step, digits) if start is None else float(start)
    return {"min": minimum, "max": round(max(1.0 + step, begin), digits), "step": step}, begin


def _quantiles(cosines: torch.Tensor) -> tuple[float, float]:
    values = cosines.reshape(-1).float()
    if not len(values):  # a grid that cannot be split, or a single frame
        return 0.0, 1.0
    values = values[:: 1 + len(values) // MOST_VALUES]
    low, middle = torch.quantile(values, torch.tensor([LOW_QUANTILE, 0.5], device=values.device)).tolist()
    return low, middle


def _round_step(wanted: float) -> float:
    """The smallest of 1, 2 or 5 times a power of ten that is at least ``wanted``."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(round(k * power, 12) for k in (1, 2, 5, 10) if k * power >= wanted * 0.999)
