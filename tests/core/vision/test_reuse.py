"""Steps in time that equal the one before are encoded once: the same features, fewer frames through the encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sttm_core.comparison import compare
from sttm_core.engine import VideoLLM
from sttm_core.models import FAMILIES, Family
from sttm_core.settings import RunSettings
from sttm_core.video import VideoClip
from sttm_core.vision import encoded_once, repeated_steps
from tests.core.tiny import TINY, clip, tiny

ORDER = [0, 1, 1, 1, 2, 3, 3, 2]  # which picture each step shows
REPEATED = [False, False, True, True, False, False, True, False]


def step_of(model_type: str) -> int:
    """Frames joined to one step."""
    return 2 if "qwen" in model_type else 1


def shown(model_type: str, order: list[int] = ORDER, differing: tuple[int, ...] = ()) -> VideoClip:
    """Steps of pictures in this order; one pixel of each ``differing`` frame is changed."""
    frames = clip(8, TINY[model_type].sizes[1]).frames
    joined = step_of(model_type)
    made = np.concatenate([frames[joined * picture : joined * picture + joined] for picture in order])
    for frame in differing:
        made[frame, 3:20, 3:20] ^= 64
    return VideoClip.from_frames(made, np.arange(len(made)) * 0.5, name="repeating")


def engine(model_type: str, reuse: str) -> VideoLLM:
    of = tiny(model_type)
    return VideoLLM(of.model, of.processor, of.family, of.name, reuse_frames=reuse)


def rows_through(llm: VideoLLM, shown: VideoClip):
    """The encoded video, and how many patches went through the encoder's first layer."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    vision, counts = llm.family.vision(llm.model), []
    first = next(part for part in vision.modules() if isinstance(part, GradientCheckpointingLayer))

    def seen(module, args, kwargs):
        hidden = args[0] if args else kwargs["hidden_states"]
        counts.append(hidden[..., 0].numel())

    handle = first.register_forward_pre_hook(seen, with_kwargs=True)
    try:
        return llm.encode(shown), sum(counts)
    finally:
        handle.remove()


@pytest.mark.parametrize("model_type", sorted(TINY))
def test_equal_steps_are_encoded_once_with_the_same_features(model_type):
    (whole, all_rows), (once, few_rows) = (
        rows_through(engine(model_type, reuse), shown(model_type)) for reuse in ("off", "exact")
    )
    assert whole.reused.tolist() == [False] * len(ORDER) and once.reused.tolist() == REPEATED
    assert few_rows * len(ORDER) == all_rows * REPEATED.count(False)
    assert whole.hidden.std() > 0.1 and (whole.hidden - once.hidden).abs().max() < 1e-4
    assert torch.equal(once.layout.index, whole.layout.index)
    assert not any("get_" in name or name == "video_tokens" for name in vars(tiny(model_type).model.model))


@pytest.mark.parametrize("order", [[0, 0], [0, 0, 0, 0], [0, 1, 2], [0]])
@pytest.mark.parametrize("model_type", sorted(TINY))
def test_videos_of_one_picture_and_of_many(model_type, order):
    whole, once = (engine(model_type, reuse).encode(shown(model_type, order)) for reuse in ("off", "exact"))
    assert once.reused.tolist() == [False] + [before == after for before, after in zip(order, order[1:], strict=False)]
    assert (whole.hidden - once.hidden).abs().max() < 1e-4


@pytest.mark.parametrize("model_type", sorted(TINY))
def test_a_change_in_any_frame_of_a_step_is_seen(model_type):
    joined = step_of(model_type)
    changed = shown(model_type, [0, 0, 0], differing=(2 * joined - 1,))
    assert engine(model_type, "exact").encode(changed).reused.tolist() == [False] * 3


@pytest.mark.parametrize("model_type", sorted(TINY))
def test_no_encoder_looks_from_one_step_at_another(model_type):
    """The condition for all this: a change in one step leaves what the decoder is given of all others as it is."""
    llm, joined, seen = engine(model_type, "off"), step_of(model_type), []
    before, after = shown(model_type, [0, 1, 2]), shown(model_type, [0, 1, 2], differing=(joined,))

    def entered(module, args, kwargs):
        seen.append(kwargs["inputs_embeds"][0])

    handle = llm.decoder.register_forward_pre_hook(entered, with_kwargs=True)
    layouts = [llm.encode(video).layout for video in (before, after)]
    handle.remove()
    patches = [layout.patches(embeds) for layout, embeds in zip(layouts, seen, strict=True)]  # [T, H, W, C]
    off = (patches[0] - patches[1]).abs().flatten(1).amax(1)
    assert off[1] > 1e-2 and max(off[0], off[2]) < 1e-5


def test_every_family_says_where_its_features_come_from():
    assert all(family.features_by for family in FAMILIES.values()) and Family.features_by is None


def test_a_family_that_says_nothing_encodes_all(monkeypatch):
    llm = engine("qwen2_vl", "exact")
    monkeypatch.setattr(type(llm.family), "features_by", None)
    encoded, _ = rows_through(llm, shown("qwen2_vl"))
    assert not encoded.reused.any()


@pytest.mark.parametrize("newline", ["no_token", "one_token", "frame", "grid"])
def test_llava_video_with_newlines(newline):
    from sttm_core.models.llava_video import LlavaVideo, LlavaVideoForConditionalGeneration

    config = tiny("llava_onevision").model.config.__class__(**tiny("llava_onevision").model.config.to_dict())
    config.newline, config.pooling = newline, "bilinear"
    torch.manual_seed(0)
    model, pixels = LlavaVideoForConditionalGeneration(config).eval(), torch.randn(3, 3, 120, 120)[[0, 0, 1, 2, 2]]
    repeated = repeated_steps({"pixel_values_videos": pixels[None]}, 5)
    assert repeated.tolist() == [False, True, False, False, True]
    with torch.no_grad():
        known = model.model.video_tokens(pixels)
        with LlavaVideo().reusing(model, repeated):
            found = model.model.video_tokens(pixels)
    assert known.std() > 1e-4 and found.shape == known.shape and (known - found).abs().max() < 1e-5


def test_an_error_leaves_nothing_behind():
    model = tiny("internvl").model.model
    with pytest.raises(KeyError), encoded_once(model, "get_image_features", torch.tensor([False, True])):
        assert "get_image_features" in vars(model)
        raise KeyError
    assert "get_image_features" not in vars(model)


def test_a_comparison_says_how_many_steps_were_reused():
    llm = engine("qwen2_vl", "exact")
    result = compare(llm, shown("qwen2_vl"), "What?", RunSettings.of(retention=0.5), runs=1, max_new_tokens=1)
    assert result.as_dict()["steps"] == {"all": 8, "reused": 3}


def test_only_off_and_exact_are_known():
    with pytest.raises(ValueError, match="reuse_frames must be one of exact, off, got 'near'."):
        engine("qwen2_vl", "near")
