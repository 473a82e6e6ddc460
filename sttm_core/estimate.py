"""How many tokens a video becomes and what they need in memory, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedConfig

MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True)
class Estimate:
    """What one prefix will need beside the weights; text is not counted, it is short.

    Attributes:
        grid: ``(T, H, W)`` video tokens.
        kept_tokens: video tokens from the merge layer on.
        kv_bytes: exact for these tokens.
        working_bytes: a layer's activations over the longest sequence that it sees: an estimate, kernels differ.
        free_bytes: free on the GPUs together, or in this machine's memory; None where the system does not tell.
        positions: of the model's ``context`` that all video tokens take at least; None where the config has no limit.
    """

    grid: tuple[int, int, int]
    kept_tokens: int
    kv_bytes: int
    working_bytes: int
    free_bytes: int | None = None
    positions: int = 0
    context: int | None = None

    @property
    def video_tokens(self) -> int:
        """Before merging: ``T*H*W``."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def needed_bytes(self) -> int:
        return self.kv_bytes + self.working_bytes

    @property
    def warning(self) -> str | None:
        """One sentence where it won't fit, else None."""
        if self.context is not None and self.positions > self.context:
            return (
                f"the video takes {self.positions} positions, and this model's context has {self.context}; "
                "use fewer frames, or load the model with a rope_factor."
            )
        if self.free_bytes is None or self.needed_bytes <= self.free_bytes:
            return None
        return (
            f"{self.video_tokens} video tokens, {self.kept_tokens} after merging, need about "
            f"{in_words(self.needed_bytes)} beside the model, and {in_words(self.free_bytes)} are free; "
            "use fewer frames, or merge more."
        )


def estimate_memory(
    text: PreTrainedConfig,
    grid: tuple[int, int, int],
    kept_tokens: int,
    merge_layer: int,
    dtype: torch.dtype,
    free_bytes: int | None = None,
) -> Estimate:
    """What a video of ``grid`` tokens needs in a decoder with config ``text``, merged before layer ``merge_layer``."""
    all_tokens = grid[0] * grid[1] * grid[2]
    longest = all_tokens if merge_layer else kept_tokens
    cached = merge_layer * all_tokens + (text.num_hidden_layers - merge_layer) * kept_tokens  # tokens, over all layers
    wide = 3 * text.hidden_size + 3 * text.intermediate_size  # stream, normed, attended; gate, up, their product
    return Estimate(
        grid=grid,
        kept_tokens=kept_tokens,
        kv_bytes=cached * kv_bytes_per_token(text, dtype),
        working_bytes=longest * wide * dtype.itemsize,
        free_bytes=free_bytes,
    )


def kv_bytes_per_token(text: PreTrainedConfig, dtype: torch.dtype) -> int:
    """Keys and values of one token in one layer."""
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * text.num_key_value_heads * head * dtype.itemsize


def free_memory(device: torch.device) -> int | None:
    """Free bytes of all GPUs together, or of this machine on a CPU; None where the system does not tell."""
    if device.type == "cuda":
        return sum(torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count()))
    if device.type == "cpu" and MEMINFO.exists():
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def in_words(count: int) -> str:
    """Bytes for people: 3.2 GB, 41.5 MB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
