"""Inputs of the merge benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sttm_core import Quadtree

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """One size of input, and the time and memory that it must not exceed on a GPU, None where nothing is promised."""

    frames: int
    height: int
    width: int
    channels: int
    dtype: str = "bfloat16"
    root_level: int = 1
    must_ms: float | None = None
    must_mib: float | None = None

    def __str__(self) -> str:
        root = "" if self.root_level == 1 else f" root {self.root_level}"
        return f"{self.frames}x{self.height}x{self.width}x{self.channels} {self.dtype}{root}"

    @property
    def tree(self) -> Quadtree:
        return Quadtree(self.height, self.width, self.root_level)


CASES = (
    Case(128, 14, 14, 3584, must_ms=1.0, must_mib=256),
    Case(180, 14, 14, 3584, must_ms=1.3),
    Case(64, 20, 36, 3584, must_ms=1.5, must_mib=400),
    Case(1024, 14, 14, 3584),
    Case(64, 27, 27, 3584),
    Case(128, 14, 14, 3584, dtype="float32"),
    Case(64, 24, 24, 3584, root_level=0),  # from here on cells hold more than 64 patches
    Case(64, 27, 27, 3584, root_level=0),
    Case(32, 64, 64, 3584),
    Case(16, 64, 64, 3584, root_level=0),
)


def drifting_video(frames: int, height: int, width: int, channels: int, device: torch.device) -> torch.Tensor:
    """``[T, H, W, C]`` float32: a coarse scene that drifts, finer detail, a cut every 24 frames."""
    draw = torch.Generator(device).manual_seed(0)
    coarse = torch.randn(1 + frames // 24, -(-height // 4), -(-width // 4), channels, device=device, generator=draw)
    scene = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :height, :width]
    video = torch.empty(frames, height, width, channels, device=device)
    drift = torch.zeros(height, width, channels, device=device)
    for frame in range(frames):
        drift = 0.98 * drift + 0.15 * torch.randn(drift.shape, device=device, generator=draw)
        video[frame] = 0.5 + scene[frame // 24] + drift
    return video
