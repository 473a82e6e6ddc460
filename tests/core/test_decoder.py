"""KV caches of unequal lengths, and the mask after a cached prefix."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache, Qwen2Config

from sttm_core.decoder import KVCache, attention_after_prefix, causal_mask, run_layers, switched


def cache_of(lengths: list[int]) -> KVCache:
    made = [torch.randn(1, 2, length, 4) for length in lengths]
    return KVCache(tuple(made), tuple(part + 1 for part in made))


def test_a_cache_that_grows_leaves_its_prefix_alone():
    prefix = cache_of([7, 7, 3, 3])
    before = [part.clone() for part in prefix.keys + prefix.values]
    grown = prefix.grow()
    for index in range(4):
        grown.update(torch.ones(1, 2, 2, 4), torch.ones(1, 2, 2, 4), index)
    assert KVCache.of(grown).lengths == (9, 9, 5, 5) and prefix.lengths == (7, 7, 3, 3)
    assert all(torch.equal(a, b) for a, b in zip(before, prefix.keys + prefix.values, strict=True))
    assert prefix.nbytes == 2 * 20 * 2 * 4 * 4
    assert isinstance(grown, DynamicCache) and prefix.grow().get_seq_length(3) == 3


def test_caches_of_layer_groups_join():
    joined = cache_of([5]) + cache_of([2, 2])
    assert joined.lengths == (5, 2, 2) and len(list(joined)) == 3


@pytest.mark.parametrize("attention", ["eager", "sdpa", "flash_attention_2"])
@pytest.mark.parametrize("past, count", [(0, 1), (0, 4), (6, 1), (6, 4)])
def test_masks_let_every_token_see_its_past_and_itself(attention, past, count):
    mask = causal_mask(torch.zeros(1, count, 8), past, attention)
    if attention.startswith("flash") or count == 1:
        assert mask is None  # the kernel does it, or there is nothing to hide
        return
    if attention == "sdpa" and not past:
        assert mask is None
        return
    for i in range(count):
        for j in range(past + count):
            value = mask[0, 0, i, j]
            assert (bool(value) if attention == "sdpa" else bool(value == 0)) == (j <= past + i)
    assert mask.shape == (1, 1, count, past + count)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_additive_masks_are_finite_in_every_dtype(dtype):
    assert causal_mask(torch.zeros(1, 3, 8, dtype=dtype), 2, "eager").isfinite().all()


def test_no_layers_are_no_work():
    hidden = torch.randn(1, 3, 8)
    assert run_layers(torch.nn.ModuleList(), range(0), hidden, (), DynamicCache(), "sdpa") is hidden


@pytest.mark.parametrize("heads", [2, 6])
@pytest.mark.parametrize("past, count", [(1, 2), (9, 4), (5, 9)])
def test_attention_after_a_prefix_is_that_with_a_mask(heads, past, count):
    torch.manual_seed(0)
    query = torch.randn(1, heads, count, 8)
    key, value = torch.randn(2, 1, 2, past + count, 8)
    mask = causal_mask(torch.zeros(1, count, 8), past, "sdpa")
    repeated = (part.repeat_interleave(heads // 2, 1) for part in (key, value))
    known = torch.nn.functional.scaled_dot_product_attention(query, *repeated, attn_mask=mask, scale=0.3)
    found, weights = attention_after_prefix(torch.nn.Module(), query, key, value, scaling=0.3, sliding_window=None)
    assert weights is None and (found - known.transpose(1, 2)).abs().max() < 1e-6


def test_attention_is_switched_back_whatever_happens():
    config = Qwen2Config(attn_implementation="sdpa")
    with pytest.raises(KeyError), switched(config, "eager"):
        assert config._attn_implementation == "eager"
        raise KeyError
    assert config._attn_implementation == "sdpa"
