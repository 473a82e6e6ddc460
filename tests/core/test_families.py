"""Every family on a tiny random model: plain transformers, the oracle by hand and the engine say the same."""

from __future__ import annotations

from functools import cache

import pytest
import torch

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
    merging = Merging(video.merge_layer, plan.tau_spatial, plan.tau_temporal, rule)
    for question in QUESTIONS:  # the second from the same prefix
        prompt = prompt_of(model_type, question)
        logits, length = by_hand.next_logits(llm, prompt, [], merging)
        assert (llm.first_token_logits(prefix, question) - logits).abs().max() < 1e-4
        assert length == prefix.tokens_after + len(llm.question_ids(question))
        expected = by_hand.greedy(llm, prompt, merging, 3)
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
def test_all_text_stays_where_it_was(model_type):
    """Every token that is no video patch is in the shortened sequence bit for bit, in order."""
    llm, video, plan = tiny(model_type), encoded(model_type), some_plan(model_type)
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
    from sttm_core.engine import VideoLLM

    llm = tiny(model_type)
    llm.model.save_pretrained(tmp_path)
    llm.processor.save_pretrained(tmp_path)
    again = VideoLLM.load(str(tmp_path), device="cpu")
    assert type(again.family) is type(llm.family)
    first, second = (one.prefill(one.encode(shown(model_type, 5, 0))) for one in (llm, again))
    a, b = llm.first_token_logits(first, QUESTIONS[0]), again.first_token_logits(second, QUESTIONS[0])
    assert (a - b).abs().max() < 1e-5
