"""Fewer pixels: the grid that is chosen, what the encoder then sees, shares of all pixels' tokens, every family."""

from __future__ import annotations

import copy
import json
from functools import cache

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from sttm_core.comparison import compare, settings_used
from sttm_core.engine import VideoLLM
from sttm_core.methods import Downsample
from sttm_core.models.base import Family
from sttm_core.settings import RunSettings
from tests.core.tiny import TINY, clip, hook_counts, tiny

FAMILIES = sorted(TINY)
QUESTION = "What is shown?"
every_family = pytest.mark.parametrize("model_type", FAMILIES)


@cache
def encoded(model_type: str, size: int = 0, layer: int | None = None):
    return tiny(model_type).encode(clip(5, TINY[model_type].sizes[size]), merge_layer=layer)


def largest(height: int, width: int, limit: int, square: bool) -> int:
    """Cells of the largest grid within the limit, by trying all of them."""
    grids = [(h, w) for h in range(1, height + 1) for w in range(1, width + 1) if h * w <= limit]
    shaped = [(h, w) for h, w in grids if abs(h * width - w * height) <= max(height, width)]
    return max((h * w for h, w in shaped if not square or h == w), default=1)


@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize("grid", [(3, 1, 1), (2, 5, 5), (4, 8, 8), (1, 14, 14)])
@pytest.mark.parametrize("share", [1.0, 0.9, 0.5, 0.3, 0.1, 0.001])
def test_the_largest_grid_within_the_budget(grid: tuple[int, int, int], share: float, square: bool) -> None:
    rows, columns = Downsample(share).grid(grid, square)
    limit = max(1, int(share * np.prod(grid) + 1e-9)) // grid[0]
    assert rows * columns == largest(*grid[1:], limit, square)
    assert not square or rows == columns


@pytest.mark.parametrize(
    ("grid", "small"), [((2, 8, 8), (3, 3)), ((1, 5, 7), (5, 7)), ((3, 5, 7), (2, 3)), ((1, 4, 4), (1, 1))]
)
def test_a_patch_is_in_the_token_that_covers_its_centre(grid, small) -> None:
    plan = Downsample().record(grid, small)
    for frame, y, x in np.ndindex(grid):
        row, column = int((y + 0.5) / grid[1] * small[0]), int((x + 0.5) / grid[2] * small[1])
        assert plan.member_of[frame, y, x] == (frame * small[0] + row) * small[1] + column
    assert plan.num_tokens == grid[0] * small[0] * small[1] and not plan.num_dropped
    assert plan.member_of.flatten()[plan.places].tolist() == list(range(plan.num_tokens))


@pytest.mark.parametrize("size", [0, 1])
@every_family
def test_the_encoder_has_less_to_do(model_type: str, size: int) -> None:
    llm, video, seen = tiny(model_type), encoded(model_type, size), []
    before, processor = hook_counts(llm.model), copy.deepcopy(vars(llm.processor.video_processor))
    config = llm.model.config.to_json_string()
    vision = llm.family.vision(llm.model)
    attended = next(m for name, m in vision.named_modules() if name.endswith("mlp"))
    handle = attended.register_forward_hook(lambda module, args, output: seen.append(output[..., 0].numel()))
    try:
        llm.encode(video.clip)
        for share in (0.5, 0.2, 0.01):
            prefix = llm.timed_prefill(video, Downsample(share))
            shape = prefix.encoded.layout.shape
            assert prefix.layer_tokens == (int(np.prod(shape)),) * llm.num_layers
            assert prefix.plan.num_tokens == prefix.video_tokens and prefix.plan.grid == video.layout.shape
            kept = prefix.video_tokens / video.layout.num_patches
            assert prefix.shares["kept"] == prefix.shares["layer_average"] == kept
            assert kept <= share or shape[1:] == (1, 1)
            assert prefix.timings.vision > 0 and prefix.timings.merge == 0
    finally:
        handle.remove()
    assert seen == sorted(seen, reverse=True) and seen[-1] < seen[0] / 4
    assert hook_counts(llm.model) == before and vars(llm.processor.video_processor) == processor
    assert llm.model.config.to_json_string() == config
    assert llm.encode(video.clip).hidden.equal(video.hidden)


@every_family
def test_all_tokens_are_all_pixels(model_type: str) -> None:
    llm, video = tiny(model_type), encoded(model_type)
    prefix = llm.timed_prefill(video, Downsample(1.0))
    assert prefix.encoded is video and prefix.plan.changes_nothing
    assert llm.first_token_logits(prefix, QUESTION).equal(llm.first_token_logits(llm.prefill(video), QUESTION))


def plain_features(llm: VideoLLM, model_type: str, side: int) -> torch.Tensor:
    """``[N, C]`` what the plain model makes of frames brought to ``side`` tokens, its config changed for it."""
    shown = clip(5, TINY[model_type].sizes[0])
    model, frames, video = llm.model.model, torch.from_numpy(shown.frames).movedim(-1, 1), llm.processor.video_processor
    if model_type.startswith("qwen"):
        pixels = side * (32 if "qwen3" in model_type else 28)
        small = resize(frames, [pixels, pixels], InterpolationMode.BICUBIC, antialias=True)
        free = {"shortest_edge": 1, "longest_edge": 10**9}
        made = video([small], return_tensors="pt", do_sample_frames=False, size=free)
        found = model.get_video_features(made["pixel_values_videos"], made["video_grid_thw"]).pooler_output
        return torch.cat(list(found))
    per_token = {"internvl": 16, "smolvlm": 24}.get(model_type)
    pixels = side * per_token if per_token else (2 * side - 1) * 8  # of LLaVA-OneVision
    if model_type == "smolvlm":
        made = copy.copy(video)
        made.max_image_size = {"longest_edge": pixels}
        given = made([frames], return_tensors="pt", do_sample_frames=False, size={"longest_edge": pixels})
        return torch.cat(list(model.get_image_features(given["pixel_values"]).pooler_output))
    given = video([frames], return_tensors="pt", do_sample_frames=False, size={"height": pixels, "width": pixels})
    if model_type == "internvl":
        return model.get_image_features(given["pixel_values_videos"][0]).pooler_output.flatten(0, 1)
    config, own = llm.model.config.vision_config, llm.model.config.vision_config.image_size
    config.image_size = pixels
    try:
        found = model.get_video_features(given["pixel_values_videos"], interpolate_pos_encoding=True)
    finally:
        config.image_size = own
    frames = found.pooler_output[0]
    return frames[: len(frames) // side**2 * side**2]  # without the newline, where it is there already


@torch.no_grad()
@every_family
def test_tokens_are_those_of_the_plain_model_on_smaller_frames(model_type: str) -> None:
    llm = tiny(model_type)
    if model_type.startswith("qwen3"):  # whose layers add to them before anything can be seen
        video = llm.encode(clip(5, TINY[model_type].sizes[0]), grid=(3, 3))
        seen = []
        handle = llm.decoder.layers[0].register_forward_pre_hook(lambda m, args: seen.append(args[0]))
        llm.encode(video.clip, grid=(3, 3))
        handle.remove()
        tokens = video.layout.patches(seen[0][0])
    else:
        tokens = llm.encode(clip(5, TINY[model_type].sizes[0]), merge_layer=0, grid=(3, 3)).tokens
    expected = plain_features(llm, model_type, 3)
    assert tokens.shape[1:3] == (3, 3) and tokens.flatten(0, 2).shape == expected.shape
    assert (tokens.flatten(0, 2) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("budget", ["kept", "layer_average", "kv_bytes"])
def test_any_budget_can_be_held(budget: str) -> None:
    llm = tiny("qwen2_vl")
    used = settings_used(llm, RunSettings.of("downsample", retention=0.5, budget=budget))
    video = encoded("qwen2_vl", 0)
    prefix = llm.timed_prefill(video, llm.fitted(video, used))
    assert 0.35 < prefix.shares[budget] <= 0.5
    one_more = llm.timed_prefill(video, Downsample(prefix.shares["kept"] + 0.12))
    assert one_more.shares[budget] > 0.5, "the next grid would be above it"


def test_it_is_compared_and_timed_like_any_other() -> None:
    result = compare(tiny("internvl"), clip(), QUESTION, RunSettings.of("downsample", retention=0.3), runs=2)
    said = json.loads(json.dumps(result.as_dict()))
    assert said["merged"]["kept"] == 0.25 and said["tokens"] == {"all": 320, "kept": 80}
    assert said["baseline"]["kept"] == 1.0 and not said["budget_missed"]


def test_a_family_that_cannot_says_so() -> None:
    with pytest.raises(ValueError, match="^Some family can't encode smaller frames; choose another method.$"):
        type("Some", (Family,), {"title": "Some family"})().smaller(None, None, None, (1, 1))
