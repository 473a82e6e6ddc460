"""Encoders with replaced forward passes give what transformers gives, in every family, and are as before afterwards."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from sttm_core.engine import VideoLLM
from sttm_core.models import family_of
from sttm_core.vision import fused_layers
from sttm_core.vision.layers import forward_of, is_compiled
from tests.core.tiny import TINY, clip, shuffled

FAMILIES = sorted(TINY)
REPLACED = {
    "llava_onevision": {"Conv2d", "SiglipMLP"},
    "internvl": {"Conv2d"},
    "smolvlm": {"Conv2d", "SmolVLMVisionMLP"},
    "qwen2_vl": {"Conv3d", "VisionAttention", "QuickGELUActivation"},
    "qwen2_5_vl": {"Conv3d", "Qwen2_5_VLVisionAttention", "Qwen2_5_VLRMSNorm", "Qwen2_5_VLMLP"},
    "qwen3_vl": {"Conv3d", "Qwen3VLVisionAttention", "Qwen3VLVisionMLP"},
    "qwen3_vl_moe": {"Conv3d", "Qwen3VLMoeVisionAttention", "Qwen3VLMoeVisionMLP"},
}


def fresh(model_type: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, VideoLLM]:
    """A model as transformers makes it, and a copy of it in an engine."""
    torch.manual_seed(0)
    model, processor = TINY[model_type].build("sdpa")
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    plain = shuffled(model, 7).to(dtype)
    return plain, VideoLLM(copy.deepcopy(plain), processor, family_of(model_type), "tiny")


def features(llm: VideoLLM, model: nn.Module) -> torch.Tensor:
    """``[N, C]`` what ``model`` makes of a clip for its decoder, deepstack features included."""
    shown = clip(6, TINY[llm.family.model_type].sizes[1])
    frames = torch.from_numpy(shown.frames).permute(0, 3, 1, 2)
    text = llm.family.parts(llm.processor).head
    inputs = llm.family.inputs(llm.processor, text, frames, shown.times, llm.frame_tokens)
    place = next(model.parameters()).device
    asked = [value.to(place) for name, value in inputs.items() if name.startswith("pixel_values")]
    asked[0] = asked[0].to(model.dtype)
    asked += [inputs[name].to(place) for name in ("video_grid_thw",) if name in inputs]
    with torch.inference_mode():
        videos = hasattr(model.model, "get_video_features")
        made = (model.model.get_video_features if videos else model.model.get_image_features)(*asked)
    parts = [made.pooler_output, *(getattr(made, "deepstack_features", None) or [])]
    flat = [part if isinstance(part, torch.Tensor) else torch.cat(tuple(part)) for part in parts]
    return torch.cat([part.flatten(0, -2) for part in flat])


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-5), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_features_are_those_of_plain_transformers(model_type, dtype, tolerance):
    """In bfloat16 as near to the truth in float32 as transformers is, to a fiftieth."""
    plain, llm = fresh(model_type, dtype)
    known = features(llm, plain)
    with llm.family.fast_vision(llm.model):
        found = features(llm, llm.model)
        changed = {type(part).__name__ for part in llm.model.modules() if "forward" in vars(part)}
    assert changed == REPLACED[model_type]
    assert known.std() > 0.01 and known.dtype == found.dtype == dtype
    if dtype == torch.float32:
        assert (known - found).abs().max() < tolerance
    else:
        truth = features(llm, plain.float())
        off = [(made.float() - truth).square().mean().sqrt() for made in (known, found)]
        assert off[1] < off[0] + tolerance * truth.std()
    assert not any("forward" in vars(part) or part._forward_pre_hooks for part in llm.model.modules())
    assert torch.equal(features(llm, llm.model), features(llm, llm.model))


def test_an_error_leaves_nothing_behind():
    _, llm = fresh("qwen2_5_vl")
    with pytest.raises(KeyError), llm.family.fast_vision(llm.model):
        raise KeyError
    assert not any("forward" in vars(part) for part in llm.model.modules())


def test_forward_passes_that_others_replaced_stay():
    _, llm = fresh("qwen2_5_vl")
    vision = llm.family.vision(llm.model)
    norm = vision.blocks[0].norm1
    norm.forward = own = lambda hidden: hidden
    vision.blocks[1].forward = torch.compile(vision.blocks[1].forward, backend="eager")
    with fused_layers(vision):
        assert norm.forward is own and "forward" in vars(vision.blocks[0].mlp)
        assert is_compiled(vision.blocks[1]) and not is_compiled(vision.blocks[0])
        assert not any("forward" in vars(part) for part in vision.blocks[1].mlp.modules())
    assert norm.forward is own and is_compiled(vision.blocks[1])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_of_another_kind_is_left_alone(attention):
    model, processor = TINY["qwen3_vl"].build(attention)
    llm = VideoLLM(model, processor, family_of("qwen3_vl"), "tiny")
    vision = llm.family.vision(llm.model)
    assert (forward_of(vision.blocks[0].attn) is None) == (attention == "eager")


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(3, 4, 4),
        nn.Conv2d(3, 4, 4, 4, padding=1),
        nn.Conv2d(4, 4, 2, 2, groups=2),
        nn.Conv2d(3, 4, 2, 2, dilation=2),
    ],
)
def test_convolutions_whose_patches_overlap_or_are_padded_are_left_alone(module):
    assert forward_of(module) is None


def test_an_encoded_video_is_the_same_with_fused_layers(monkeypatch):
    _, llm = fresh("qwen2_5_vl")
    shown = clip(4, (140, 196))
    found = llm.encode(shown).tokens
    monkeypatch.setattr(llm.family, "fast_vision", lambda model: nullcontext())
    known = llm.encode(shown).tokens
    assert known.std() > 0.1 and 0 < (known - found).abs().max() < 1e-4
