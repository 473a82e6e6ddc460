"""VidCom2, Video Compression Commander (Liu et al., EMNLP 2025, arXiv 2505.14454): what is usual is dropped.

The half of the channels with the lowest variance over the video is used. With the patches at length 1 there, a patch
is compared to the mean of the video and to the mean of its frame; its similarity to either is a sum of Gaussians of
the distance d, ``exp(-d**2 / (2 * alpha))`` for alpha = 1/8, 1/4, 1/2, 1, 2. Frames unlike the video get more tokens:
with p the softmax over frames of minus the frame's mean similarity to the video, at temperature 0.01, a frame keeps the
share ``base * (1 + p - mean p)`` of its patches, at most all and at least one: those with the lowest sum of both
similarities. Nothing is averaged.

The authors' code stops here and meets a budget only nearly, because shares are rounded and cut off frame by frame. As
in vLLM the count is made exact: tokens over the budget go, the most usual of the whole video first, and where some are
missing the least usual of the dropped come back. Every frame keeps one token nevertheless: T tokens are the floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..method import Method, TokenPlan, budget_count, check_retention
from .likeness import in_blocks, squared_norms

ALPHAS = tuple(2.0**power for power in range(-3, 2))
TEMPERATURE = 0.01


@dataclass(frozen=True, eq=False)
class Vidcom2Tables:
    """``to_video [T, H*W]``, ``to_frame [T, H*W]`` float32: each patch's similarity to the two means."""

    to_video: torch.Tensor
    to_frame: torch.Tensor

    @property
    def nbytes(self) -> int:
        return self.to_video.nbytes + self.to_frame.nbytes


@dataclass(frozen=True)
class Vidcom2(Method):
    """Pruning by similarity to the mean of the video and of the frame.

    Attributes:
        retention: budget, the base rate of all frames; the count is exact down to one token a frame.

    Raises:
        ValueError: for a value out of range, in one sentence.
    """

    name: ClassVar[str] = "vidcom2"
    title: ClassVar[str] = "VidCom2"
    paper: ClassVar[str] = "Liu et al., EMNLP 2025, arXiv 2505.14454"

    retention: float = 0.25

    def __post_init__(self) -> None:
        check_retention(self.retention)

    def tables(self, tokens: torch.Tensor) -> Vidcom2Tables:
        """The similarities that every budget needs: four passes over the features."""
        squared_norms(tokens)  # looks for what is not finite
        frames = tokens.flatten(1, 2)  # [T, H*W, C]
        channels = steady_channels(frames)
        frame_means = torch.cat([unit.mean(dim=1) for unit in _unit_blocks(frames, channels)])  # [T, C/2]
        video_mean, start, parts = frame_means.mean(dim=0), 0, []
        for unit in _unit_blocks(frames, channels):
            own = frame_means[start : start + len(unit), None]
            parts.append((gaussians(unit, video_mean), gaussians(unit, own)))
            start += len(unit)
        return Vidcom2Tables(*(torch.cat(scores) for scores in zip(*parts, strict=True)))

    def plan(self, tokens: torch.Tensor, tables: Vidcom2Tables | None = None) -> TokenPlan:
        tables = self.tables(tokens) if tables is None else tables
        usual = tables.to_video + tables.to_frame  # [T, H*W]
        count = max(len(usual), budget_count(usual.numel(), self.retention))
        rank = usual.argsort(dim=1, stable=True).argsort(dim=1)  # [T, H*W] 0 is the least usual of its frame
        kept = rank < kept_per_frame(tables.to_video, self.retention)[:, None]
        places = exactly(count, usual.flatten(), kept.flatten(), (rank == 0).flatten())
        return TokenPlan.keeping(self, places, tokens.shape[:3])


def steady_channels(frames: torch.Tensor) -> torch.Tensor:
    """``[C // 2]`` channels (at least one) with the lowest variance over ``frames [T, H*W, C]``; the lower first."""
    count, channels = frames[..., 0].numel(), frames.shape[-1]
    mean = sum(block.sum(dim=(0, 1)) for block in in_blocks(frames)) / count
    variance = sum((block - mean).square_().sum(dim=(0, 1)) for block in in_blocks(frames)) / count
    return variance.argsort(stable=True)[: max(1, channels // 2)].sort().values


def _unit_blocks(frames: torch.Tensor, channels: torch.Tensor):
    """Some of the frames at a time, ``[F, H*W, C/2]`` float32: the chosen channels, at length 1."""
    for block in in_blocks(frames):
        yield torch.nn.functional.normalize(block[..., channels], dim=-1)


def gaussians(patches: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """``[F, H*W]``: similarity of ``patches [F, H*W, C]`` to a mean."""
    squared = (patches - mean).square_().sum(dim=-1)
    return sum(torch.exp(-squared / (2 * alpha)) for alpha in ALPHAS)


def kept_per_frame(to_video: torch.Tensor, base: float) -> torch.Tensor:
    """``[T]`` int64: tokens of each frame before the count is made exact."""
    area = to_video.shape[1]
    share = (-to_video.double().mean(dim=1) / TEMPERATURE).softmax(dim=0)  # [T]
    rate = (base * (1 + share - share.mean())).clamp(max=1)
    return (rate * area).round().long().clamp(1, area)


def exactly(count: int, usual: torch.Tensor, kept: torch.Tensor, always: torch.Tensor) -> torch.Tensor:
    """``[count]`` patches in scan order: those ``kept [P]``, less the most usual or with the least usual of the rest.

    Args:
        always: ``[P]`` bool, patches that stay in any case.
    """
    tier = 2 - kept.long() - always.long()  # 0: stays, 1: kept, 2: the rest
    by_score = usual.argsort(stable=True)
    order = by_score[tier[by_score].argsort(stable=True)]
    return order[:count].sort().values
