"""Inputs made the fast way are those that the processor makes."""

from __future__ import annotations

import pytest
import torch

from sttm_core.models.base import processed
from tests.core.tiny import TINY, clip, tiny


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("model_type", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"])
def test_qwen_inputs_are_those_of_a_text_with_all_placeholders(model_type, frames, monkeypatch):
    llm, size = tiny(model_type), TINY[model_type].sizes[1]
    family, processor, shown = (
        llm.family,
        llm.processor,
        clip(max(2, frames) if "qwen3" in model_type else frames, size),
    )
    text, pixels = family.parts(processor).head, torch.from_numpy(shown.frames).permute(0, 3, 1, 2)
    options = family.video_options(processor, pixels, shown.times, llm.frame_tokens)
    expected = processed(processor, text, pixels, options)
    tokenized, tokenize = [], type(processor.tokenizer).__call__
    monkeypatch.setattr(
        type(processor.tokenizer),
        "__call__",
        lambda self, text, **how: tokenized.append(text) or tokenize(self, text, **how),
    )
    found = family.inputs(processor, text, pixels, shown.times, llm.frame_tokens)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value) and found[name].dtype == value.dtype, name
    (short,) = tokenized
    steps, tokens = -(-shown.num_frames // 2), int((found["input_ids"] == processor.video_token_id).sum())
    assert str(short).count(processor.video_token) == steps < tokens
