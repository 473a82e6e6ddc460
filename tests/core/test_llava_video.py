"""LLaVA-Video's original checkpoints: names and config as lmms-lab writes them, read without a copy."""

from __future__ import annotations

import json
import re

import pytest
import torch
from safetensors.torch import save_file

from sttm_core import merging
from sttm_core.engine import ModelError, VideoLLM
from sttm_core.host_to_device import frames_on
from sttm_core.methods import make_method
from sttm_core.models.llava_video import LlavaVideoForConditionalGeneration, onevision_config
from sttm_core.settings import RunSettings
from tests.core import by_hand
from tests.core.tiny import LAYERS, clip, shuffled, text_config, tokenizer
from tests.core.videos import safe_threshold

PATCHES = 9  # a side; 5 tokens where pooled bilinearly, 4 by average
QUESTION = "What is shown?"
TO_ORIGINAL = [
    (r"^model\.vision_tower\.(vision_model\.)?", "model.vision_tower.vision_tower.vision_model."),
    (r"^model\.multi_modal_projector\.linear_1\.", "model.mm_projector.0."),
    (r"^model\.multi_modal_projector\.linear_2\.", "model.mm_projector.2."),
    (r"^model\.language_model\.", "model."),
]


def original_config(vocabulary: int, **changes) -> dict:
    vision = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 8 * PATCHES, "patch_size": 8, "vision_use_head": False,
    }  # fmt: skip
    return text_config(vocabulary) | {
        "architectures": ["LlavaQwenForCausalLM"], "model_type": "llava", "rope_theta": 1e6, "rope_scaling": None,
        "mm_vision_tower": "google/siglip-so400m-patch14-384", "mm_hidden_size": 32, "mm_projector_type": "mlp2x_gelu",
        "mm_newline_position": "grid", "mm_spatial_pool_mode": "bilinear", "mm_spatial_pool_stride": 2,
        "mm_vision_select_layer": -2, "tie_word_embeddings": False, "vision_config": vision,
    } | changes  # fmt: skip


def write_original(folder, **changes):
    """A folder as lmms-lab publishes it, with tiny random weights; returns those weights by their original names."""
    text = tokenizer("<image>\n")
    config = original_config(len(text) + 4, **changes)
    torch.manual_seed(0)
    made = onevision_config({**config, "mm_spatial_pool_mode": "bilinear"})
    made.newline = "no_token"
    weights = {}
    for name, weight in shuffled(LlavaVideoForConditionalGeneration(made), 3).state_dict().items():
        for pattern, original in TO_ORIGINAL:
            name = re.sub(pattern, original, name)
        weights[name] = weight.contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    text.save_pretrained(folder)
    return weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("llava-video")
    write_original(path)
    return path


def load(folder, **options) -> VideoLLM:
    return VideoLLM.load(str(folder), device="cpu", **options)


def test_every_weight_arrives_under_its_new_name(tmp_path):
    weights = write_original(tmp_path)
    assert "model.mm_projector.2.weight" in weights and "model.image_newline" in weights
    llm = load(tmp_path)
    mine = llm.model.state_dict()
    pairs = {
        "model.layers.2.mlp.up_proj.weight": "model.language_model.layers.2.mlp.up_proj.weight",
        "model.embed_tokens.weight": "model.language_model.embed_tokens.weight",
        "model.norm.weight": "model.language_model.norm.weight",
        "model.mm_projector.0.bias": "model.multi_modal_projector.linear_1.bias",
        "model.image_newline": "model.image_newline",
        "lm_head.weight": "lm_head.weight",
    }
    assert len(mine) == len(weights) and llm.family.title == "LLaVA-Video"
    for original, new in pairs.items():
        assert torch.equal(weights[original], mine[new])
    tower = [weight for name, weight in mine.items() if ".vision_tower." in name]
    theirs = [weight for name, weight in weights.items() if ".vision_tower." in name]
    assert len(tower) == len(theirs) and all(torch.equal(a, b) for a, b in zip(tower, theirs, strict=True))
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".safetensors") == ["model.safetensors"]


def frame_features(llm, pixels: torch.Tensor, pooling: str) -> torch.Tensor:
    """``[T, h, w, C]`` by hand: tower without its last norm, projector, pooling window by window."""
    model = llm.model.model
    tower = getattr(model.vision_tower, "vision_model", model.vision_tower)
    state = tower.embeddings(pixels[0])
    for layer in tower.encoder.layers:
        state = layer(state, attention_mask=None)
        state = state[0] if isinstance(state, tuple) else state
    grid = model.multi_modal_projector(state).unflatten(1, (PATCHES, PATCHES))  # [T, H, W, C]
    if pooling == "bilinear":
        channels = grid.permute(0, 3, 1, 2)
        return torch.nn.functional.interpolate(channels, size=(5, 5), mode="bilinear").permute(0, 2, 3, 1)
    windows = [[grid[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].flatten(1, 2) for x in range(4)] for y in range(4)]
    reduce = {"average": lambda w: w.mean(1), "max": lambda w: w.amax(1)}[pooling]
    return torch.stack([torch.stack([reduce(window) for window in row], 1) for row in windows], 1)


def expected_rows(features: torch.Tensor, mark: torch.Tensor, newline: str) -> list[torch.Tensor]:
    """The video's rows of the sequence, one by one."""
    rows = []
    for frame in features:
        for line in frame:
            rows += [*line, mark] if newline == "grid" else list(line)
        rows += [mark] if newline == "frame" else []
    return rows + ([mark] if newline == "one_token" else [])


@pytest.mark.parametrize("pooling", ["bilinear", "average", "max"])
@pytest.mark.parametrize("newline", [None, "no_token", "one_token", "frame", "grid"])
def test_pooling_and_newlines(folder, tmp_path, newline, pooling):
    write_original(tmp_path, mm_spatial_pool_mode=pooling)
    llm, shown = load(tmp_path, newline=newline), clip(3)
    frames, prompt = frames_on(llm.device, shown.frames), llm.family.parts(llm.processor).head
    inputs = llm.family.inputs(llm.processor, prompt, frames, shown.times)
    with torch.no_grad():
        features = frame_features(llm, inputs["pixel_values_videos"], pooling)
        rows = expected_rows(features, llm.model.model.image_newline, newline or "no_token")
        found = llm.model.model.video_tokens(inputs["pixel_values_videos"][0])
    assert found.shape[0] == len(rows) and (found - torch.stack(rows)).abs().max() < 1e-5
    layout = llm.family.layout(llm.model, inputs)
    first = int(layout.index[0, 0, 0])
    assert layout.shape == (3, *features.shape[1:3])
    assert (found[layout.index - first] - features).abs().max() < 1e-5
    assert int((inputs["input_ids"] == llm.model.config.video_token_index).sum()) == len(rows)


@pytest.mark.parametrize("newline", ["no_token", "grid"])
def test_merged_and_unmerged_answers(folder, newline):
    llm, shown = load(folder, newline=newline), clip(5)
    inputs = llm.processor(text=llm.family.prompt(llm.processor, QUESTION), videos=[shown.frames])
    video = llm.encode(shown)
    plain = llm.model.generate(
        **inputs, do_sample=False, max_new_tokens=4, output_logits=True, return_dict_in_generate=True
    )
    full = llm.prefill(video)
    assert (llm.first_token_logits(full, QUESTION) - plain.logits[0][0]).abs().max() < 1e-4
    text = llm.processor.tokenizer.decode(plain.sequences[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert llm.answer(full, QUESTION, max_new_tokens=4).text == text.strip()
    minima, pairs = video.tables.split_minima("paper").numpy(), video.tables.pair_cosines.numpy()
    taus = [safe_threshold(values, float(torch.tensor(values).quantile(0.5))) for values in (minima, pairs)]
    plan = video.tables.plan(*taus)
    assert plan.retention < 0.9
    prompt = by_hand.Prompt(inputs, video.layout.index.numpy(), by_hand.positions_of(llm.model, inputs))
    asked = by_hand.Merging(2, *taus)
    expected, length = by_hand.next_logits(llm, prompt, [], asked, by_hand.merged_video(llm, prompt, asked))
    short = llm.prefill(video, plan)
    assert (llm.first_token_logits(short, QUESTION) - expected).abs().max() < 1e-4
    assert short.tokens_after + len(llm.question_ids(QUESTION)) == length < inputs["input_ids"].shape[1]


@pytest.mark.parametrize(
    "changes, options, said",
    [
        ({}, {"newline": "everywhere"}, "no_token, one_token, frame, grid"),
        ({"vision_config": None, "mm_vision_tower": "openai/clip-vit"}, {}, "openai/clip-vit"),
        ({"mm_spatial_pool_mode": "median"}, {}, "'median'"),
        ({"mm_spatial_pool_stride": 3}, {}, "two by two"),
    ],
)
def test_what_is_not_known_is_refused(folder, tmp_path, changes, options, said):
    config = json.loads((folder / "config.json").read_text()) | changes
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=re.escape(said)):
        load(tmp_path, **options)


def test_the_published_config_is_that_of_the_published_model():
    config = onevision_config(
        original_config(152064, vision_config=None, hidden_size=3584, num_hidden_layers=28, num_attention_heads=28)
    )
    vision = config.vision_config
    assert (vision.image_size // vision.patch_size, vision.num_hidden_layers, vision.hidden_size) == (27, 26, 1152)
    assert config.text_config.num_hidden_layers == 28 and LAYERS == 4


@pytest.mark.parametrize("newline", ["no_token", "one_token", "frame", "grid"])
@pytest.mark.parametrize("pooling", ["bilinear", "average"])
def test_smaller_frames_have_their_own_rows_and_newlines(tmp_path, pooling, newline):
    write_original(tmp_path, mm_spatial_pool_mode=pooling)
    llm, shown = load(tmp_path, newline=newline), clip(3)
    whole = llm.encode(shown, merge_layer=0)
    prefix = llm.timed_prefill(whole, make_method("downsample", retention=0.4))
    side, full = {"bilinear": (3, 5), "average": (2, 4)}[pooling]
    small = prefix.encoded.layout
    assert whole.layout.shape == (3, full, full) and small.shape == (3, side, side)
    newlines = {"no_token": 0, "one_token": 1, "frame": 3, "grid": 3 * side}[newline]
    head = len(llm.processor.tokenizer(llm.family.parts(llm.processor).head).input_ids) - 1
    assert small.length == head + small.num_patches + newlines
    assert prefix.shares["kept"] == (side / full) ** 2
    assert llm.answer(prefix, QUESTION, max_new_tokens=2).new_tokens


@pytest.mark.parametrize("name", ["fastv", "framefusion"])
def test_methods_inside_layers_keep_every_newline(folder, name):
    llm = load(folder, newline="grid")
    whole = llm.encode(clip(3), merge_layer=2)
    prefix = llm.timed_prefill(whole, make_method(name, retention=0.5), QUESTION)
    assert prefix.video_tokens == prefix.plan.num_tokens <= 0.5 * whole.layout.num_patches
    assert prefix.cache.lengths[-1] - prefix.video_tokens == whole.shape.text + len(llm.question_ids(QUESTION))
    everything = llm.timed_prefill(whole, make_method(name, retention=1.0), QUESTION)
    plain = llm.first_token_logits(llm.prefill(whole), QUESTION)
    assert (everything.logits - plain).abs().max() < 1e-4


@pytest.mark.parametrize("newline", ["no_token", "one_token", "frame", "grid"])
def test_plain_generate_runs_merged(folder, newline):
    """The family is found from the config, which is otherwise LLaVA-OneVision's."""
    llm, shown = load(folder, newline=newline), clip(3)
    inputs = llm.processor(llm.family.prompt(llm.processor, QUESTION), [torch.from_numpy(shown.frames)])
    with merging(llm.model, retention=0.3) as engaged:
        out = llm.model.generate(
            **inputs, do_sample=False, max_new_tokens=3, output_logits=True, return_dict_in_generate=True
        )
    encoded = llm.encode(shown)
    prefix = llm.prefill(encoded, encoded.plan(RunSettings.of(retention=0.3)))
    assert (out.logits[0][0] - llm.first_token_logits(prefix, QUESTION)).abs().max() < 1e-4
    assert engaged.kept == [prefix.video_tokens] and engaged.tokens_before[0] == inputs["input_ids"].shape[1]
