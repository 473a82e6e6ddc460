"""Memory of published shapes, worked out by hand."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2Config

from sttm_core import estimate
from sttm_core.estimate import Estimate, estimate_memory, free_memory
from tests.core.tiny import tiny

QWEN2_7B = Qwen2Config(
    hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4
)


@pytest.mark.parametrize(
    "kept, layer, kv_bytes, longest",
    [
        (25088, 2, 25088 * 28 * 2048, 25088),  # 128 frames of 196 tokens; 2 * 4 heads * 128 * 2 bytes a layer
        (7526, 2, (2 * 25088 + 26 * 7526) * 2048, 25088),
        (7526, 0, 28 * 7526 * 2048, 7526),
        (7526, 27, (27 * 25088 + 7526) * 2048, 25088),
    ],
)
def test_a_7b_model_at_128_frames(kept, layer, kv_bytes, longest):
    found = estimate_memory(QWEN2_7B, (128, 14, 14), kept, layer, torch.bfloat16)
    assert found.kv_bytes == kv_bytes and found.video_tokens == 25088
    assert found.working_bytes == longest * 3 * (3584 + 18944) * 2
    assert found.needed_bytes == found.kv_bytes + found.working_bytes and found.warning is None


@pytest.mark.parametrize("free, warns", [(None, False), (3_000_000_000, False), (2_999_999_999, True)])
def test_it_warns_when_it_will_not_fit(free, warns):
    found = Estimate((10, 10, 10), 300, kv_bytes=2_000_000_000, working_bytes=1_000_000_000, free_bytes=free)
    assert (found.warning is not None) == warns
    if warns:
        assert "1000 video tokens, 300 after merging, need about 3.0 GB" in found.warning


@pytest.mark.parametrize("frames, warns", [(64, False), (65, True)])
def test_it_warns_when_the_context_will_not_hold_it(frames, warns):
    found = tiny("llava_onevision").estimate(frames)  # 64 tokens a frame, 4096 positions
    assert (found.positions, found.context) == (64 * frames, 4096)
    said = "the video takes 4160 positions, and this model's context has 4096; use fewer frames, or load the model"
    assert (found.warning or "").startswith(said) == warns


def test_free_memory_of_this_machine(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:  900 kB\nMemAvailable:   500 kB\n")
    monkeypatch.setattr(estimate, "MEMINFO", tmp_path / "meminfo")
    assert free_memory(torch.device("cpu")) == 500 * 1024
    monkeypatch.setattr(estimate, "MEMINFO", tmp_path / "none")
    assert free_memory(torch.device("cpu")) is None


def test_free_memory_is_that_of_all_gpus_together(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (10 * (index + 1), 1000))
    assert free_memory(torch.device("cuda")) == 60


@pytest.mark.parametrize(
    "arguments, options, said",
    [
        ((0,), {}, r"got 0, \[720, 1280\] and 1.0."),
        ((4, (0, 10)), {}, r"got 4, \[0, 10\] and 1.0."),
        ((4,), {"retention": 0}, "above 0 and at most 1, got 4, .* and 0."),
        ((4,), {"retention": 1.5}, "above 0 and at most 1, got 4, .* and 1.5."),
        ((4,), {"merge_layer": 9}, "between 0 and 3 for this model, got 9."),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, options, said):
    with pytest.raises(ValueError, match=said):
        tiny("llava_onevision").estimate(*arguments, **options)


@pytest.mark.parametrize("retention, kept", [(1e-9, 1), (0.25, 64), (1.0, 256)])
def test_one_token_at_least_is_kept(retention, kept):
    assert tiny("llava_onevision").estimate(4, retention=retention).kept_tokens == kept
