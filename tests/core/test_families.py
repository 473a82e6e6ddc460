"""Every family on a tiny random model: plain transformers, the oracle by hand and the engine say the same."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from sttm_core.engine import VideoLLM
from sttm_core.models.base import metadata
from sttm_core.video import VideoClip
from tests.core import by_hand
from tests.core.by_hand import Merging
from tests.core.tiny import TINY, clip, plain_inputs, tiny
from tests.core.videos import safe_threshold

FAMILIES = sorted(TINY)
CLIPS = [(5, 0), (8, 1)]  # frames, which of the family's two sizes
QUESTIONS = ("What is shown?", "And then, where?")
NEW_TOKENS = 6
RULES = ("reassigned", "survived", "merged")


@cache
def shown(model_type: str, frames: int, size: int):
    return clip(frames, TINY[model_type].sizes[size])


@cache
def encoded(model_type: str, frames: int = 5, size: int = 0):
    return tiny(model_type).encode(shown(model_type, frames, size))


@cache
def some_plan(model_type: str, frames: int = 5, size: int = 0):
    """About half of the tokens, at thresholds that rounding can't push across a similarity."""
    tables = encoded(model_type, frames, size).tables
    minima, pairs = tables.split_minima("paper").numpy(), tables.pair_cosines.numpy()
    wanted = [float(torch.tensor(values).quantile(0.6)) for values in (minima, pairs)]
    return tables.plan(safe_threshold(minima, wanted[0]), safe_threshold(pairs, wanted[1]))


def prompt_of(model_type: str, question: str, frames: int = 5, size: int = 0) -> by_hand.Prompt:
    llm, row = tiny(model_type), TINY[model_type]
    inputs = plain_inputs(llm, model_type, shown(model_type, frames, size), question)
    token = llm.processor.tokenizer.convert_tokens_to_ids(row.patch_token)
    places = by_hand.places_of(inputs, token, row.grid(frames, size))
    return by_hand.Prompt(inputs, places, by_hand.positions_of(llm.model, inputs))


def merging_of(model_type: str, rule: str = "reassigned") -> Merging:
    plan = some_plan(model_type)
    return Merging(encoded(model_type).merge_layer, plan.tau_spatial, plan.tau_temporal, rule)


@cache
def merged_by_hand(model_type: str):
    return by_hand.merged_video(tiny(model_type), prompt_of(model_type, QUESTIONS[0]), merging_of(model_type))


@pytest.mark.parametrize("frames, size", CLIPS)
@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_prompt_is_that_of_the_processor(model_type, frames, size):
    llm = tiny(model_type)
    whole = plain_inputs(llm, model_type, shown(model_type, frames, size), QUESTIONS[0])["input_ids"][0]
    layout = encoded(model_type, frames, size).layout
    prompt = prompt_of(model_type, QUESTIONS[0], frames, size)
    tail = llm.question_ids(QUESTIONS[0])
    assert whole[layout.length :].tolist() == tail.tolist()
    assert layout.shape == TINY[model_type].grid(frames, size)
    assert layout.index.tolist() == prompt.places.tolist()
    joined = 2 if layout.shape[0] < frames else 1
    assert encoded(model_type, frames, size).step_frames.tolist() == list(range(0, frames, joined))


@pytest.mark.parametrize("frames, size", CLIPS)
@pytest.mark.parametrize("model_type", FAMILIES)
def test_with_nothing_merged_the_answer_is_that_of_plain_transformers(model_type, frames, size):
    llm = tiny(model_type)
    inputs = plain_inputs(llm, model_type, shown(model_type, frames, size), QUESTIONS[0])
    plain = llm.model.generate(
        **inputs, do_sample=False, max_new_tokens=NEW_TOKENS, output_logits=True, return_dict_in_generate=True
    )
    expected = llm.processor.tokenizer.decode(
        plain.sequences[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )
    everything = encoded(model_type, frames, size).tables.plan(2.0, 2.0)
    for plan in (None, everything):
        prefix = llm.prefill(encoded(model_type, frames, size), plan, position_rule="survived")
        logits = llm.first_token_logits(prefix, QUESTIONS[0])
        assert (logits - plain.logits[0][0]).abs().max() < 1e-4
        assert llm.answer(prefix, QUESTIONS[0], max_new_tokens=NEW_TOKENS).text == expected.strip()
    assert plain.logits[0][0].std() > 0.1


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("model_type", FAMILIES)
def test_merged_answers_are_those_of_the_sequence_shortened_by_hand(model_type, rule):
    llm, video, plan = tiny(model_type), encoded(model_type), some_plan(model_type)
    assert 0.1 < plan.retention < 0.9 and plan.num_chains
    prefix = llm.prefill(video, plan, position_rule=rule)
    asked, merged = merging_of(model_type, rule), merged_by_hand(model_type)
    for question in QUESTIONS:  # the second from the same prefix
        prompt = prompt_of(model_type, question)
        logits, length = by_hand.next_logits(llm, prompt, [], asked, merged)
        assert (llm.first_token_logits(prefix, question) - logits).abs().max() < 1e-4
        assert length == prefix.tokens_after + len(llm.question_ids(question))
        expected = by_hand.greedy(llm, prompt, asked, merged, 3)
        answer = llm.answer(prefix, question, max_new_tokens=3)
        assert answer.text == llm.processor.tokenizer.decode(expected, skip_special_tokens=True).strip()
        assert answer.prompt_tokens == length


@pytest.mark.parametrize("model_type", FAMILIES)
def test_lengths_say_what_was_merged(model_type):
    llm, video, plan = tiny(model_type), encoded(model_type), some_plan(model_type)
    short, full = llm.prefill(video, plan), llm.prefill(video)
    dropped = plan.num_patches - plan.num_tokens
    assert dropped > 0
    late = llm.num_layers - video.merge_layer
    assert full.cache.lengths == (video.layout.length,) * llm.num_layers
    assert short.cache.lengths == (video.layout.length,) * video.merge_layer + (video.layout.length - dropped,) * late
    assert short.nbytes < full.nbytes


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("all_into_the_first_frame", [False, True])
def test_all_text_stays_where_it_was(model_type, all_into_the_first_frame):
    """Every token that is no video patch is in the shortened sequence bit for bit, in order."""
    llm, video, plan = tiny(model_type), encoded(model_type), some_plan(model_type)
    if all_into_the_first_frame:
        still = shown(model_type, 5, 0).frames[:1].repeat(6, axis=0)
        video = llm.encode(VideoClip.from_frames(still))
        plan = video.tables.plan(-1.0, 1e-6)
        assert plan.tokens_per_frame[1:].sum() == 0
    seen = []
    handle = llm.decoder.layers[video.merge_layer].register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    llm.prefill(video, plan)
    handle.remove()
    places = set(video.layout.index.reshape(-1).tolist())
    text = [place for place in range(video.layout.length) if place not in places]
    short = {row.numpy().tobytes(): i for i, row in enumerate(seen[0][0])}
    found = [short[video.hidden[0, place].numpy().tobytes()] for place in text]
    assert found == sorted(found) and len(found) == len(text)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_folder_saved_by_transformers_loads_and_answers_the_same(model_type, tmp_path):
    llm = tiny(model_type)
    llm.model.save_pretrained(tmp_path)
    llm.processor.save_pretrained(tmp_path)
    again = VideoLLM.load(str(tmp_path), device="cpu")
    assert type(again.family) is type(llm.family)
    first, second = (one.prefill(one.encode(shown(model_type, 5, 0))) for one in (llm, again))
    a, b = llm.first_token_logits(first, QUESTIONS[0]), again.first_token_logits(second, QUESTIONS[0])
    assert (a - b).abs().max() < 1e-5


def test_a_chat_template_without_a_video_is_one_sentence(monkeypatch):
    llm = tiny("llava_onevision")
    monkeypatch.setattr(llm.family, "prompt", lambda processor, question: f"user: {question}")
    with pytest.raises(ValueError, match="^the chat template of this model places no '<video>' in the prompt.$"):
        llm.question_ids(QUESTIONS[0])


FOLLOWING_THE_VIDEO = [name for name in FAMILIES if tiny(name).family.frame_tokens]


@pytest.mark.parametrize("limit", [6, 24])
@pytest.mark.parametrize("model_type", FOLLOWING_THE_VIDEO)
def test_the_number_of_tokens_a_step_can_be_limited(model_type, limit):
    whole = tiny(model_type)
    llm = VideoLLM(whole.model, whole.processor, whole.family, "limited", frame_tokens=limit)
    for frames in (2, 7):
        steps, height, width = llm.encode(clip(frames, (256, 320))).layout.shape
        assert steps == (frames + 1) // 2
        assert limit / 2 < height * width <= limit
    assert VideoLLM(whole.model, whole.processor, whole.family, "default").frame_tokens == 768


def test_a_limit_below_one_token_is_refused():
    whole = tiny(FOLLOWING_THE_VIDEO[0])
    with pytest.raises(ValueError, match="frame_tokens must be at least 1, got 0"):
        VideoLLM(whole.model, whole.processor, whole.family, "none", frame_tokens=0)


@pytest.mark.parametrize("model_type", ["qwen3_vl", "qwen3_vl_moe"])
def test_merging_waits_for_the_last_deepstack_features(model_type):
    llm = tiny(model_type)
    assert llm.default_merge_layer == 3  # features are added to what layers 0, 1 and 2 give out
    for layer in range(3):
        with pytest.raises(ValueError, match=f"between 3 and 3 for this model, got {layer}"):
            llm.encode(shown(model_type, 5, 0), merge_layer=layer)


def test_true_time_reaches_the_rotary_positions():
    """Qwen2.5-VL: frames half a second apart make steps of a second, 25 positions each."""
    llm, video = tiny("qwen2_5_vl"), encoded("qwen2_5_vl")
    expected = prompt_of("qwen2_5_vl", QUESTIONS[0]).positions  # [3, S]
    start = int(video.layout.index[0, 0, 0])
    for step in range(3):
        assert (expected[0, video.layout.index[step].reshape(-1)] == start + 25 * step).all()
    cos, sin = llm.decoder.rotary_emb(video.hidden, expected[:, None, : video.layout.length])
    assert all((a - b).abs().max() < 1e-6 for a, b in zip((cos, sin), video.positions.embeddings, strict=True))
    assert video.positions.next == expected[0, video.layout.length]


@pytest.mark.parametrize("frames, size", [(1, (100, 200)), (2, (64, 64)), (5, (300, 240)), (8, (480, 640))])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_grid_is_known_before_anything_runs(model_type, frames, size):
    llm = tiny(model_type)
    limited = VideoLLM(llm.model, llm.processor, llm.family, "limited", frame_tokens=40)
    video = limited.encode(clip(frames, size))
    assert limited.estimate(frames, size).grid == video.layout.shape


@pytest.mark.parametrize("model_type", FAMILIES)
def test_estimated_bytes_are_those_of_the_cached_video_tokens(model_type):
    llm, video, plan = tiny(model_type), encoded(model_type), some_plan(model_type)
    text = video.layout.length - video.layout.num_patches
    for prefix, retention in ((llm.prefill(video), 1.0), (llm.prefill(video, plan), plan.retention)):
        estimate = llm.estimate(5, TINY[model_type].sizes[0], retention=retention)
        a_token = prefix.nbytes / sum(prefix.cache.lengths)
        assert estimate.kv_bytes == prefix.nbytes - a_token * text * llm.num_layers
        assert estimate.kept_tokens == prefix.video_tokens and estimate.video_tokens == video.layout.num_patches


@pytest.mark.parametrize(
    "times", [[0.0], [0.0, 1 / 3, 2 / 3], [0.04, 0.08, 0.9, 2.345], [k / 29.97 for k in range(90)]]
)
def test_processors_are_told_the_true_times(times):
    told = metadata(np.array(times))
    assert max(abs(a - b) for a, b in zip(told.timestamps, times, strict=True)) <= 0.0005
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1.0
    assert told.sampled_fps == pytest.approx(1 / step, rel=0.002)
    assert told.duration == pytest.approx(times[-1] + step)


def test_a_checkpoint_may_advise_where_to_merge_and_with_which_positions(monkeypatch):
    llm = tiny("llava_onevision")
    assert (llm.default_merge_layer, llm.default_position_rule) == (2, "reassigned")
    monkeypatch.setattr(llm.model.config, "sttm", {"merge_layer": 0, "position_rule": "survived"}, raising=False)
    assert (llm.default_merge_layer, llm.default_position_rule) == (0, "survived")
    monkeypatch.setattr(llm.model.config, "sttm", {"merge_layer": 99})  # as far as the model allows it
    assert (llm.default_merge_layer, llm.default_position_rule) == (llm.num_layers - 1, "reassigned")
