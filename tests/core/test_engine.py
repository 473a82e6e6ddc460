"""The engine on a tiny model: what is cached, what is left alone, what goes wrong. Answers: see test_families."""

from __future__ import annotations

import threading
from functools import cache

import pytest
import torch
from torch.nn.attention.bias import causal_upper_left

from sttm_core import decoder
from sttm_core.engine import OutOfMemoryError, VideoLLM
from sttm_core.models import FAMILIES
from tests.core import by_hand
from tests.core.tiny import LAYERS, clip, hook_counts, plain_inputs, tiny
from tests.core.videos import safe_threshold

MODEL = "llava_onevision"
FIRST, SECOND = "What is shown?", "Where does it go, and how fast?"


@cache
def encoded(layer: int = 2, attention: str = "sdpa"):
    return tiny(MODEL, attention).encode(clip(), merge_layer=layer)


def plan_for(video):
    minima, pairs = video.tables.split_minima("paper").numpy(), video.tables.pair_cosines.numpy()
    return video.tables.plan(
        safe_threshold(minima, float(torch.tensor(minima).quantile(0.6))),
        safe_threshold(pairs, float(torch.tensor(pairs).quantile(0.6))),
    )


def prefixes(layer: int = 2) -> list:
    llm, video = tiny(MODEL), encoded(layer)
    return [llm.prefill(video), llm.prefill(video, plan_for(video))]


def contents(prefix) -> list[bytes]:
    return [part.numpy().tobytes() for part in prefix.cache.keys + prefix.cache.values]


@pytest.mark.parametrize("merged", [False, True])
def test_questions_leave_the_prefix_bit_for_bit_as_it_was(merged):
    llm, prefix = tiny(MODEL), prefixes()[merged]
    before = contents(prefix)
    first = llm.answer(prefix, FIRST, max_new_tokens=5)
    llm.answer(prefix, SECOND, max_new_tokens=5)
    again = llm.answer(prefix, FIRST, max_new_tokens=5)
    assert contents(prefix) == before
    assert (again.text, again.new_tokens) == (first.text, first.new_tokens)


@pytest.mark.parametrize("layer", [0, 1, LAYERS - 1])
@pytest.mark.parametrize("rule", ["reassigned", "survived"])
def test_any_layer_can_be_the_merge_layer(layer, rule):
    llm, video = tiny(MODEL), encoded(layer)
    plan = plan_for(video)
    prefix = llm.prefill(video, plan, position_rule=rule)
    assert prefix.cache.lengths == (video.layout.length,) * layer + (prefix.tokens_after,) * (LAYERS - layer)
    inputs = plain_inputs(llm, MODEL, clip(), FIRST)
    token = llm.processor.tokenizer.convert_tokens_to_ids("<video>")
    places = by_hand.places_of(inputs, token, video.layout.shape)
    prompt = by_hand.Prompt(inputs, places, by_hand.positions_of(llm.model, inputs))
    merging = by_hand.Merging(layer, plan.tau_spatial, plan.tau_temporal, rule)
    merged = by_hand.merged_video(llm, prompt, merging)
    expected, _ = by_hand.next_logits(llm, prompt, [], merging, merged)
    assert (llm.first_token_logits(prefix, FIRST) - expected).abs().max() < 1e-4


def test_the_baseline_does_not_depend_on_the_merge_layer():
    llm = tiny(MODEL)
    logits = [llm.first_token_logits(llm.prefill(encoded(layer)), FIRST) for layer in (0, 2, LAYERS - 1)]
    assert max((other - logits[0]).abs().max() for other in logits[1:]) < 1e-4


@pytest.mark.parametrize("merged", [False, True])
def test_eager_and_sdpa_attention_agree(merged):
    logits = []
    for attention in ("eager", "sdpa"):
        llm, video = tiny(MODEL, attention), encoded(2, attention)
        assert llm.model.config.text_config._attn_implementation == attention
        plan = encoded(2).tables.plan(plan_for(encoded(2)).tau_spatial, 2.0) if merged else None
        logits.append(llm.first_token_logits(llm.prefill(video, plan), FIRST))
    assert (logits[0] - logits[1]).abs().max() < 1e-4


def test_a_wrong_mask_would_be_seen(monkeypatch):
    """With a mask aligned to the top left, a question after a cached prefix gets other logits."""
    llm, prefix = tiny(MODEL), prefixes()[0]
    right = llm.first_token_logits(prefix, FIRST)
    monkeypatch.setattr(decoder, "causal_lower_right", causal_upper_left)
    wrong = llm.first_token_logits(prefix, FIRST)
    assert (right - wrong).abs().max() > 1e-2


def test_interleaved_streams_give_what_they_give_alone():
    llm, (full, short) = tiny(MODEL), prefixes()
    asked = [(full, FIRST), (short, SECOND), (full, SECOND)]
    alone = [list(llm.stream(*one, max_new_tokens=6)) for one in asked]
    streams, together = [llm.stream(*one, max_new_tokens=6) for one in asked], [[], [], []]
    running = list(range(3))
    while running:
        for i in list(running):
            piece = next(streams[i], None)
            running.remove(i) if piece is None else together[i].append(piece)
    assert together == alone
    assert any(alone)


def test_threads_give_what_they_give_alone():
    llm, (full, short) = tiny(MODEL), prefixes()
    asked = [(full, FIRST), (short, SECOND), (short, FIRST)]
    alone = [llm.answer(*one, max_new_tokens=6).text for one in asked]
    found: dict[int, str] = {}

    def ask(i: int) -> None:
        found[i] = llm.answer(*asked[i], max_new_tokens=6).text

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(3)] == alone


def test_a_stream_given_up_halfway_blocks_nobody():
    llm, prefix = tiny(MODEL), prefixes()[0]
    stream = llm.answering(prefix, FIRST, max_new_tokens=6)
    next(stream)
    done = threading.Event()
    thread = threading.Thread(target=lambda: (llm.answer(prefix, SECOND, max_new_tokens=2), done.set()), daemon=True)
    thread.start()
    assert done.wait(20)
    stream.close()
    assert not torch.is_inference_mode_enabled()


def test_streamed_pieces_join_to_the_answer_and_end_once():
    llm, prefix = tiny(MODEL), prefixes()[1]
    answers = list(llm.answering(prefix, FIRST, max_new_tokens=5))
    assert [one.finished for one in answers] == [False] * (len(answers) - 1) + [True]
    assert [one.new_tokens for one in answers] == list(range(1, len(answers) + 1))
    assert "".join(llm.stream(prefix, FIRST, max_new_tokens=5)).strip() == answers[-1].text
    assert llm.answer(prefix, FIRST, max_new_tokens=1).new_tokens == 1


def test_every_stage_is_timed():
    llm, (full, short) = tiny(MODEL), prefixes()
    for prefix in (full, short):
        answer = llm.answer(prefix, FIRST, max_new_tokens=2)
        stages = answer.timings.as_dict()
        assert all(stages[name] > 0 for name in ("vision", "prefill", "first_token"))
        assert (stages["merge"] > 0) == (prefix is short)
        assert answer.ttft == pytest.approx(sum(stages.values()))
        assert answer.total_s >= stages["first_token"]
        assert answer.peak_bytes is None or answer.peak_bytes > 0


def test_kv_bytes_are_those_of_the_cached_tokens():
    llm, (full, short) = tiny(MODEL), prefixes()
    text = llm.model.config.text_config
    a_token = 2 * text.num_key_value_heads * (text.hidden_size // text.num_attention_heads) * 4
    tail = len(llm.question_ids(FIRST))
    for prefix in (full, short):
        answer = llm.answer(prefix, FIRST, max_new_tokens=3)
        assert answer.kv_bytes == a_token * sum(length + tail for length in prefix.cache.lengths)


def test_the_plan_is_made_again_from_the_features_that_are_merged():
    """A plan from elsewhere brings thresholds and rules, not decisions."""
    llm, video = tiny(MODEL), encoded()
    plan = plan_for(video)
    other = tiny(MODEL).encode(clip(seed=3))
    prefix = llm.prefill(other, plan)
    assert prefix.plan.num_tokens == other.tables.plan(plan.tau_spatial, plan.tau_temporal).num_tokens


@pytest.mark.parametrize("stage", ["encode", "prefill", "answer"])
def test_running_out_of_memory_is_one_sentence_and_leaves_the_engine_working(stage):
    llm, video = tiny(MODEL), encoded()
    prefix = llm.prefill(video)
    expected, before = llm.first_token_logits(prefix, FIRST), hook_counts(llm.model)
    failing = llm.decoder.layers[0 if stage == "encode" else 3]

    def fail(module, args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of")

    handle = failing.register_forward_pre_hook(fail)
    calls = {
        "encode": lambda: llm.encode(clip()),
        "prefill": lambda: llm.prefill(video),
        "answer": lambda: llm.answer(prefix, FIRST),
    }
    try:
        with pytest.raises(OutOfMemoryError) as caught:
            calls[stage]()
    finally:
        handle.remove()
    said = str(caught.value)
    assert said.endswith(".") and ". " not in said and "\n" not in said
    assert ("about 0.5 MB" in said) == (stage == "prefill")
    assert hook_counts(llm.model) == before
    assert not torch.is_inference_mode_enabled()
    assert torch.equal(llm.first_token_logits(llm.prefill(llm.encode(clip())), FIRST), expected)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda llm, video: llm.encode(clip(), merge_layer=LAYERS), f"between 0 and {LAYERS - 1}"),
        (lambda llm, video: llm.encode(clip(), merge_layer=-1), "-1"),
        (lambda llm, video: llm.prefill(video, position_rule="nearest"), "'nearest'"),
        (lambda llm, video: llm.prefill(video, llm.encode(clip(3)).tables.plan(0.9, 0.9)), r"\[3, 8, 8\]"),
        (lambda llm, video: llm.answer(llm.prefill(video), "  "), "question is empty"),
        (lambda llm, video: llm.answer(llm.prefill(video), FIRST, max_new_tokens=0), "max_new_tokens"),
        (lambda llm, video: list(llm.stream(llm.prefill(video), FIRST, max_new_tokens=-2)), "-2"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(call, said):
    with pytest.raises(ValueError, match=said):
        call(tiny(MODEL), encoded())


def test_an_unknown_architecture_names_the_known_ones_and_the_file_to_write():
    from sttm_core.models import family_of

    with pytest.raises(ValueError) as caught:
        family_of("banana_vl")
    assert "sttm_core/models/banana_vl.py" in str(caught.value)
    assert all(family.title in str(caught.value) for family in FAMILIES.values())


def test_things_print_what_they_are():
    llm, video = tiny(MODEL), encoded()
    assert repr(video) == "EncodedVideo('blocks', 5x8x8 tokens before layer 2, tiny llava_onevision)"
    assert repr(llm.prefill(video)).startswith(f"Prefix({video.layout.length} -> {video.layout.length} tokens, ")
    assert isinstance(llm, VideoLLM) and llm.num_layers == LAYERS and llm.default_merge_layer == 2
