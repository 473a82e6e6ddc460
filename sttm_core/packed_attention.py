"""Attention inside many short stretches of one long sequence, as vision encoders need it, without a loop over them.

Encoders of Qwen-VL attend within a frame or a window. Transformers runs one SDPA call for each of these stretches,
which is tens of thousands of calls for a video of a hundred frames, unless FlashAttention is installed. Stretches of
one length can be a batch instead: there are few lengths, since only windows at a grid's right and lower edge are cut.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import AttentionInterface

NAME = "packed_flash_sdpa"  # transformers hands out stretches in one piece where "flash" is in the name


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None = None,
    *,
    cu_seq_lens_q: torch.Tensor,
    scaling: float | None = None,
    **unused,
) -> tuple[torch.Tensor, None]:
    """Attention among the tokens of each stretch, in both directions.

    Args:
        query, key, value: ``[1, heads, N, head_dim]``.
        cu_seq_lens_q: ``[stretches + 1]`` where each of them starts, ending with N.

    Returns:
        ``[1, N, heads, head_dim]``, and None for the attention weights.
    """
    parts = query[0], key[0], value[0]  # [heads, N, head_dim]
    starts, lengths = cu_seq_lens_q[:-1], cu_seq_lens_q.diff()
    sizes = lengths.unique().tolist()
    if len(sizes) == 1:
        return _batched(parts, sizes[0], scaling).flatten(0, 1)[None], None
    attended = query.new_empty(query.shape[2], query.shape[1], query.shape[3])  # [N, heads, head_dim]
    for size in sizes:
        first = starts[lengths == size]
        places = (first[:, None] + torch.arange(size, device=first.device)).flatten()
        attended[places] = _batched([part[:, places] for part in parts], size, scaling).flatten(0, 1)
    return attended[None], None


def _batched(parts: tuple[torch.Tensor, ...], size: int, scaling: float | None) -> torch.Tensor:
    """``[stretches, size, heads, head_dim]`` from ``[heads, stretches * size, head_dim]`` queries, keys and values."""
    rows = [part.unflatten(1, (-1, size)).transpose(0, 1) for part in parts]  # [stretches, heads, size, head_dim]
    return nn.functional.scaled_dot_product_attention(*rows, scale=scaling).transpose(1, 2)


AttentionInterface.register(NAME, packed_attention)
