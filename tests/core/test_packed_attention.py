"""Attention over stretches of a sequence: as one call for each of them, whatever their lengths."""

from __future__ import annotations

import copy

import pytest
import torch

from sttm_core import packed_attention
from sttm_core.engine import VideoLLM
from sttm_core.models import family_of
from tests.core.tiny import TINY, clip, shuffled


@pytest.mark.parametrize("lengths", [[5], [4, 4, 4], [4, 2, 4, 2, 1, 4], [1, 2, 3]])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_each_stretch_attends_to_itself(lengths, scaling):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, sum(lengths), 8)
    starts = torch.tensor([0, *lengths]).cumsum(0).int()
    found, weights = packed_attention.packed_attention(
        torch.nn.Module(), query, key, value, cu_seq_lens_q=starts, scaling=scaling, is_causal=False
    )
    one_by_one = [
        torch.nn.functional.scaled_dot_product_attention(*stretch, scale=scaling)
        for stretch in zip(*(part.split(lengths, 2) for part in (query, key, value)), strict=True)
    ]
    assert weights is None and found.shape == (1, sum(lengths), 2, 8)
    assert (found - torch.cat(one_by_one, 2).transpose(1, 2)).abs().max() < 1e-6


@pytest.mark.parametrize("model_type", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("size", [(224, 224), (196, 308)])
def test_the_encoder_gives_what_it_gives_in_plain_transformers(model_type, size):
    torch.manual_seed(0)
    model, processor = TINY[model_type].build("sdpa")
    plain = shuffled(model, 7)
    llm = VideoLLM(copy.deepcopy(plain), processor, family_of(model_type), "packed")
    assert plain.config.vision_config._attn_implementation == "sdpa"
    assert llm.model.config.vision_config._attn_implementation == packed_attention.NAME
    shown = clip(6, size)
    text = llm.family.parts(processor).head
    pixels = llm.family.inputs(
        processor, text, torch.from_numpy(shown.frames).permute(0, 3, 1, 2), shown.times, llm.frame_tokens
    )
    asked = pixels["pixel_values_videos"], pixels["video_grid_thw"]
    with torch.no_grad():
        whole, packed = (of.model.get_video_features(*asked).pooler_output[0] for of in (plain, llm.model))
    assert whole.std() > 0.01 and (whole - packed).abs().max() < 1e-5


def test_other_attention_is_left_alone():
    model, processor = TINY["qwen2_vl"].build("eager")
    VideoLLM(model, processor, family_of("qwen2_vl"), "eager")
    assert model.config.vision_config._attn_implementation == "eager"
