"""Norms and cosines of video tokens in float32, some rows at a time: what is held beside the input stays small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ..method import check_finite, check_tokens

CPU_BYTES = 8 * 2**20  # float32 features worked on at a time: near the caches
DEVICE_BYTES = 64 * 2**20  # on other devices, where a block should fill the machine


def rows_per_block(rows: torch.Tensor) -> int:
    """How many of ``rows [R, ...]`` are widened to float32 at a time."""
    limit = CPU_BYTES if rows.device.type == "cpu" else DEVICE_BYTES
    return max(1, limit // (4 * rows[0].numel()))


def in_blocks(rows: torch.Tensor) -> Iterator[torch.Tensor]:
    """``rows [R, ...]`` as float32, block after block."""
    for block in rows.split(rows_per_block(rows)):
        yield block.float()


def squared_norms(tokens: torch.Tensor) -> torch.Tensor:
    """``[T, H*W]`` float32 of ``tokens [T, H, W, C]``.

    Raises:
        ValueError: for a wrong rank, dtype or size, or squared norms that are not finite.
    """
    frames = check_tokens(tokens).flatten(1, 2)  # [T, H*W, C]
    squares = torch.cat([torch.linalg.vecdot(block, block) for block in in_blocks(frames)])
    check_finite(squares, tokens)
    return squares


def frame_cosines(tokens: torch.Tensor, pairs: Sequence[tuple[int, int]]) -> torch.Tensor:
    """``[P, H*W]`` float32: cosine of each patch of ``tokens [T, H, W, C]`` in two frames; 0 where a vector is zero.

    Args:
        pairs: the P pairs of frames that are compared.

    Raises:
        ValueError: as `squared_norms`.
    """
    lengths, frames = squared_norms(tokens).sqrt(), tokens.flatten(1, 2)  # [T, H*W], [T, H*W, C]
    index = torch.tensor(pairs, dtype=torch.int64, device=tokens.device).view(-1, 2)
    dots = [
        torch.linalg.vecdot(frames[block[:, 0]].float(), frames[block[:, 1]].float())
        for block in index.split(rows_per_block(frames))
    ]
    scale = lengths[index[:, 0]] * lengths[index[:, 1]]  # [P, H*W]
    return torch.where(scale > 0, torch.cat(dots).view_as(scale) / scale, 0.0)


def check_values(tokens: torch.Tensor) -> torch.Tensor:
    """``tokens`` themselves; ValueError unless they are ``[T, H, W, C]`` of a float dtype, and finite."""
    check_finite(check_tokens(tokens).sum(dim=-1, dtype=torch.promote_types(tokens.dtype, torch.float32)), tokens)
    return tokens
