"""Running a stretch of decoder layers by hand: layers whose KV caches may have different lengths."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn
from torch.nn.attention.bias import causal_lower_right
from transformers import AttentionInterface, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

AFTER_PREFIX = "sdpa_after_prefix"  # `attention_after_prefix`, as transformers knows it
RotaryEmbeddings = tuple[torch.Tensor, torch.Tensor]  # cos, sin: [..., N, head_dim]


@dataclass(frozen=True, eq=False)
class KVCache:
    """Keys and values of a prefix, one ``[1, heads, length, head_dim]`` pair a layer. Never written to.

    Every answer grows a `DynamicCache` of its own out of it, so a prefix serves any number of questions unchanged.
    """

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, cache: DynamicCache) -> KVCache:
        """The present content of ``cache``; later updates of it do not show here."""
        return cls(tuple(layer.keys for layer in cache.layers), tuple(layer.values for layer in cache.layers))

    @property
    def lengths(self) -> tuple[int, ...]:
        """Cached tokens in each layer."""
        return tuple(keys.shape[-2] for keys in self.keys)

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in self.keys + self.values)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return iter(zip(self.keys, self.values, strict=True))

    def __add__(self, other: KVCache) -> KVCache:
        """The layers of ``self`` followed by those of ``other``."""
        return KVCache(self.keys + other.keys, self.values + other.values)

    def grow(self) -> DynamicCache:
        """A cache that starts from this prefix: it shares its tensors until it is appended to, which copies."""
        cache = DynamicCache()
        for keys, values in self:
            layer = DynamicLayer()
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
            cache.layers.append(layer)
        return cache


@lru_cache
def cache_argument(kind: type[nn.Module]) -> str:
    """What a module of this class calls the KV cache that it is given: transformers renames it in 5.24."""
    taken = inspect.signature(kind.forward).parameters
    return "cache" if "cache" in taken else "past_key_values"


def run_layers(
    layers: nn.ModuleList,
    span: range,
    hidden: torch.Tensor,
    embeddings: RotaryEmbeddings,
    cache: DynamicCache,
    attention: str,
) -> torch.Tensor:
    """Hidden states ``[1, N, D]`` through the decoder layers of ``span``, appending N tokens to their caches.

    Args:
        layers: all decoder layers of the model.
        span: indices to run; their caches must have one common length.
        embeddings: rotary cos and sin of the N tokens.
        cache: what these layers have seen so far.
        attention: the model's attention implementation, ``config._attn_implementation``.
    """
    if not len(span):
        return hidden
    past, config = cache.get_seq_length(span[0]), layers[span[0]].self_attn.config
    if attention == "sdpa" and past and hidden.shape[1] > 1:
        with switched(config, AFTER_PREFIX):
            return _run(layers, span, hidden, embeddings, cache, None)
    return _run(layers, span, hidden, embeddings, cache, causal_mask(hidden, past, attention))


def _run(
    layers: nn.ModuleList,
    span: range,
    hidden: torch.Tensor,
    embeddings: RotaryEmbeddings,
    cache: DynamicCache,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """As `run_layers`, with the attention that the model is set to."""
    for index in span:
        output = layers[index](
            hidden,
            attention_mask=mask,
            position_embeddings=embeddings,
            position_ids=None,
            use_cache=True,
            **{cache_argument(type(layers[index])): cache},
        )
        hidden = output[0] if isinstance(output, tuple) else output
    return hidden


@contextmanager
def switched(config: PreTrainedConfig, attention: str) -> Iterator[None]:
    """Inside the `with`, the layers of this config attend by another implementation."""
    usual = config._attn_implementation
    config._attn_implementation = attention
    try:
        yield
    finally:
        config._attn_implementation = usual


def attention_after_prefix(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None = None,
    *,
    scaling: float | None = None,
    **unused,
) -> tuple[torch.Tensor, None]:
    """Attention of the last N of S tokens to all that come before them and to themselves.

    With a mask of ``[N, S]``, SDPA can use neither FlashAttention nor grouped heads: transformers would then repeat
    the keys and values of the whole prefix for each query head.

    Args:
        query: ``[1, heads, N, head_dim]``.
        key, value: ``[1, heads or fewer, S, head_dim]``.

    Returns:
        ``[1, N, heads, head_dim]``, and None for the attention weights.
    """
    attended = nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=causal_lower_right(query.shape[2], key.shape[2]),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return attended.transpose(1, 2).contiguous(), None


AttentionInterface.register(AFTER_PREFIX, attention_after_prefix)


def causal_mask(
    hidden: torch.Tensor, past: int, attention: str, padding: torch.Tensor | None = None
) -> torch.Tensor | None:
    """The mask under which N new tokens see ``past`` cached ones and each other causally; None where the kernel knows.

    SDPA without a mask assumes a diagonal from the top left, which is wrong after a cached prefix: there the mask
    must be explicit and aligned to the lower right. FlashAttention aligns it that way by itself.

    Args:
        hidden: ``[B, N, D]``.
        attention: the model's attention implementation.
        padding: ``[B]`` places at the left of each row that no token sees (those there see themselves, so that no row
            of the softmax is empty); None for no padding.

    Returns:
        ``[1 or B, 1, N, past + N]``; for FlashAttention ``[B, past + N]`` bool, False at padding.
    """
    count = hidden.shape[1]
    length = past + count
    real = None if padding is None else torch.arange(length, device=hidden.device) >= padding[:, None]  # [B, length]
    if attention.startswith("flash"):
        return real
    if real is None and (count == 1 or (attention == "sdpa" and not past)):
        return None
    ones = torch.ones(count, length, dtype=torch.bool, device=hidden.device)
    seen = ones.tril(past)[None, None]
    if real is not None:
        seen = seen & real[:, None, None] | ones.tril(past).triu(past)
    if attention == "sdpa":
        return seen
    lowest = torch.finfo(hidden.dtype).min
    return torch.zeros(seen.shape, dtype=hidden.dtype, device=hidden.device).masked_fill(~seen, lowest)
