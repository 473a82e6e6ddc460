"""Frames from the host's memory to the device, as the bytes that they are."""

from __future__ import annotations

import numpy as np
import torch

CHUNK_BYTES = 32 * 2**20  # pinned at a time: copying one chunk into pinned memory hides behind the transfer of another


def frames_on(device: torch.device, frames: np.ndarray) -> torch.Tensor:
    """``[T, 3, H, W]`` uint8 on ``device`` from frames ``[T, H, W, 3]`` uint8; their axes are permuted there."""
    host = torch.from_numpy(frames)
    there = _through_pinned_memory(host, device) if device.type == "cuda" else host.to(device)
    return there.permute(0, 3, 1, 2).contiguous()


def _through_pinned_memory(host: torch.Tensor, device: torch.device) -> torch.Tensor:
    """As ``host.to(device)``, several times faster than from memory that the GPU can't read by itself."""
    there = torch.empty_like(host, device=device)
    count = max(1, CHUNK_BYTES // max(1, host[:1].nbytes))  # frames a chunk
    for source, target in zip(host.split(count), there.split(count), strict=True):
        target.copy_(source.pin_memory(), non_blocking=True)
    return there
