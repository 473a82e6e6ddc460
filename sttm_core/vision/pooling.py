"""Pooling of LLaVA's frames, with the channels of a token next to each other all the way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

CHUNK_FRAMES = 16  # pooled at a time: float32 copies of few frames are in memory


@contextmanager
def pooled_by_matrices(model: nn.Module) -> Iterator[None]:
    """Inside the `with`, this one LLaVA-OneVision pools its frames by `halve_bilinear`."""

    def apply_pooling(features: torch.Tensor) -> torch.Tensor:
        side = math.isqrt(features.shape[1])
        return halve_bilinear(features.unflatten(1, (side, side))).flatten(1, 2)  # [T, h*w, C]

    model.apply_pooling = apply_pooling
    try:
        yield
    finally:
        del model.apply_pooling


def halve_bilinear(grid: torch.Tensor) -> torch.Tensor:
    """``[T, H, W, C]`` to ``[T, ceil(H/2), ceil(W/2), C]``: `interpolate(mode="bilinear")` with the channels last.

    A product with a matrix for the rows and one for the columns, in float32, rounded once to the dtype of ``grid``.
    """
    rows, columns = (_halving(size, grid.device) for size in grid.shape[1:3])
    parts = []
    for frames in grid.split(CHUNK_FRAMES):
        wide = frames.float()
        tall = torch.bmm(rows.expand(len(wide), -1, -1), wide.flatten(2))  # [T, h, W*C]
        lines = tall.view(-1, *wide.shape[2:])  # [T*h, W, C]
        pooled = torch.bmm(columns.expand(len(lines), -1, -1), lines)  # [T*h, w, C]
        parts.append(pooled.view(len(wide), len(rows), len(columns), -1).to(grid.dtype))
    return torch.cat(parts)


def _halving(size: int, device: torch.device) -> torch.Tensor:
    """``[ceil(size/2), size]`` float32: what each output is made of, which is how `interpolate` treats unit vectors."""
    units = torch.eye(size, device=device)[None]
    return nn.functional.interpolate(units, size=math.ceil(size / 2), mode="linear")[0].T.contiguous()
