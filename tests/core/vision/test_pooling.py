"""Vision encoders made faster give what transformers gives."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sttm_core.models import family_of
from sttm_core.models.base import VideoLayout
from sttm_core.vision import contiguous_layers, halve_bilinear
from sttm_core.vision.pooling import CHUNK_FRAMES
from tests.core.tiny import TINY, clip, shuffled


@pytest.mark.parametrize("size", [(27, 27), (14, 14), (9, 6), (1, 2)])
@pytest.mark.parametrize("frames", [1, CHUNK_FRAMES + 3])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2**-19), (torch.bfloat16, 2**-7)])
def test_halving_is_interpolate(size, frames, dtype, tolerance):
    """In float32 as exactly as a place near 26 is known, which weights are the fractions of."""
    torch.manual_seed(0)
    grid = torch.rand(frames, *size, 24).to(dtype)
    half = [-(-side // 2) for side in size]
    known = nn.functional.interpolate(grid.permute(0, 3, 1, 2), size=half, mode="bilinear").permute(0, 2, 3, 1)
    found = halve_bilinear(grid)
    assert found.dtype == dtype and found.is_contiguous() and found.shape == known.shape
    assert (found.float() - known.float()).abs().max() <= tolerance


@pytest.mark.parametrize("image_size", [56, 70])
def test_onevision_gives_what_it_gives_in_plain_transformers(image_size):
    torch.manual_seed(0)
    model, _ = TINY["llava_onevision"].build("sdpa")
    model = shuffled(model, 7)
    config = copy.deepcopy(model.config)
    config.vision_config.image_size, config.vision_config.patch_size = image_size, 14
    model = type(model)(config).eval()
    pixels = torch.randn(1, 3, 3, image_size, image_size)
    family = family_of("llava_onevision")
    with torch.no_grad():
        known = model.model.get_video_features(pixels).pooler_output
        with family.fast_vision(model):
            found = model.model.get_video_features(pixels).pooler_output
        again = model.model.get_video_features(pixels).pooler_output
    assert known.std() > 1e-3 and (known - found).abs().max() < 2e-6
    assert torch.equal(known, again) and "apply_pooling" not in vars(model.model)
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("by_name", [False, True])
def test_the_first_layer_gets_channels_side_by_side(by_name):
    from transformers.modeling_layers import GradientCheckpointingLayer

    class Layer(GradientCheckpointingLayer):
        def forward(self, hidden_states):
            return hidden_states.stride()

    layer, channels_first = Layer(), torch.randn(2, 5, 3).mT  # [2, 3, 5]
    call = {"hidden_states": channels_first} if by_name else None
    with contiguous_layers(nn.Sequential(layer)):
        assert (layer(**call) if call else layer(channels_first)) == (15, 5, 1)
    assert layer(channels_first) == (15, 1, 3)
    with pytest.raises(KeyError), contiguous_layers(nn.Sequential(layer)):
        raise KeyError
    assert not layer._forward_pre_hooks
    with contiguous_layers(nn.Identity()):
        pass


def test_an_encoded_video_has_been_through_it():
    from sttm_core.engine import VideoLLM

    model, processor = TINY["llava_onevision"].build("sdpa")
    llm, strides = VideoLLM(model, processor, family_of("llava_onevision"), "tiny"), []
    layers = llm.family.vision(model).encoder.layers
    handle = layers[-1].register_forward_hook(lambda module, args, output: strides.append(args[0].stride(-1)))
    encoded = llm.encode(clip(2, (64, 64)))
    handle.remove()
    assert strides == [1]
    assert encoded.tokens.data_ptr() == encoded.hidden[0, encoded.layout.index[0, 0, 0]].data_ptr()  # not a copy


@pytest.mark.parametrize("gap", [0, 2])
def test_patches_are_those_of_the_layout(gap):
    index = torch.arange(2 * 3 * 4).view(2, 3, 4) + 5
    index[1] += gap
    layout, hidden = VideoLayout(index, 40), torch.randn(40, 6)
    assert layout.start == (None if gap else 5)
    assert torch.equal(layout.patches(hidden), hidden[index])
