"""Feed-forward layers of unaligned width give the same with zeros behind, and are saved without them."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers as tf

from sttm_core.vision import align_feed_forward
from sttm_core.vision.feed_forward import IN_AND_OUT, original_feed_forward
from tests.core.tiny import TINY, shuffled

WIDTH = 44  # 88 bytes in bfloat16
QWEN = ("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
OTHERS = ("llava_onevision", "internvl", "smolvlm")


def narrow(model_type: str, width: int = WIDTH, dtype: torch.dtype = torch.bfloat16):
    """A model of a family whose vision encoder has feed-forward layers of this width."""
    config = copy.deepcopy(TINY[model_type].build("sdpa")[0].config)
    config.vision_config.intermediate_size = width
    torch.manual_seed(1)
    return shuffled(tf.AutoModelForImageTextToText.from_config(config), 3).to(dtype)


@pytest.mark.parametrize("model_type", QWEN + OTHERS)
def test_the_result_is_the_same_and_all_of_it_can_be_undone(model_type):
    model = narrow(model_type)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    vision = model.model.visual if model_type in QWEN else getattr(model.model, "vision_tower", None)
    vision = model.model.vision_model if vision is None else vision
    layers = [layer for layer in vision.modules() if type(layer).__name__ in IN_AND_OUT]
    rows = torch.randn(9, layers[0].down_proj.out_features if hasattr(layers[0], "down_proj") else 32).bfloat16()
    with torch.no_grad():
        known = [layer(rows) for layer in layers]
        assert align_feed_forward(vision) == layers and len(layers) >= 2
        found = [layer(rows) for layer in layers]
    for before, after in zip(known, found, strict=True):
        torch.testing.assert_close(after, before, rtol=2**-7, atol=2**-8)
    assert {part.out_features for part in layers[0].children() if hasattr(part, "out_features")} == {64, 32}
    assert align_feed_forward(vision) == []  # once is enough
    saved = model.state_dict()
    assert saved.keys() == state.keys() and all(torch.equal(saved[name], state[name]) for name in state)
    original_feed_forward(vision)
    assert all(torch.equal(value, state[name]) for name, value in model.named_parameters() if name in state)
    assert not any(hasattr(layer, "unaligned_width") for layer in layers)
    assert torch.equal(model.state_dict()[next(iter(state))], state[next(iter(state))])


def test_a_widened_model_is_saved_and_loaded_as_what_it_was(tmp_path):
    model = narrow("qwen2_5_vl")
    known = {name: value.clone() for name, value in model.state_dict().items()}
    align_feed_forward(model.model.visual)
    model.save_pretrained(tmp_path)
    loaded = tf.AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.model.visual.blocks[0].mlp.down_proj.in_features == WIDTH
    assert all(torch.equal(value, known[name]) for name, value in loaded.state_dict().items())
    other = narrow("qwen2_5_vl")
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    align_feed_forward(other.model.visual)
    other.load_state_dict(known)
    assert all(torch.equal(value, known[name]) for name, value in other.state_dict().items())
    assert other.model.visual.blocks[0].mlp.gate_proj.weight[WIDTH:].abs().max() == 0


@pytest.mark.parametrize("width, dtype", [(48, torch.bfloat16), (WIDTH, torch.float32)])
def test_aligned_layers_are_left_alone(width, dtype):
    model = narrow("qwen2_5_vl", width, dtype)
    assert align_feed_forward(model.model.visual) == []
    assert model.model.visual.blocks[0].mlp.down_proj.in_features == width
