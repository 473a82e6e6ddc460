"""The engine on a tiny model: what is cached, what is left alone, what goes wrong. Answers: see test_families."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch.nn.attention.bias import causal_upper_left

from sttm_core import decoder, similarity_tables
from sttm_core.engine import DEFAULT_NEW_TOKENS, OutOfMemoryError, VideoLLM
from sttm_core.footprint import allocations, footprint
from sttm_core.models import FAMILIES, family_of
from sttm_core.settings import RunSettings
from tests.core import by_hand
from tests.core.tiny import LAYERS, TINY, clip, hook_counts, plain_inputs, tiny
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


@pytest.fixture
def says(monkeypatch):
    """``says("né", end=True)``: let the shared tiny model answer with these bytes, and stop after them."""

    def force(text: str, end: bool = True):
        llm = tiny(MODEL)
        ids = llm.processor.tokenizer(text, add_special_tokens=False).input_ids
        left = iter([*ids, *[llm.processor.tokenizer.eos_token_id] * end])
        monkeypatch.setattr(llm, "_next_token", lambda *_: time.sleep(2e-3) or next(left))
        return llm, len(ids)

    return force


def test_a_stream_shows_whole_letters_only_and_stops_at_the_stop_token(says):
    llm, count = says("né €5")
    assert count > len("né €5")  # some letters are several tokens
    answers = list(llm.answering(prefixes()[0], FIRST, max_new_tokens=50))
    assert answers[-1].text == "né €5" and answers[-1].new_tokens == count and answers[-1].finished
    assert not any("\N{REPLACEMENT CHARACTER}" in answer.text for answer in answers)
    llm, _ = says(" né €5")
    assert list(llm.stream(prefixes()[0], FIRST)) == ["n", "é", " ", "€", "5"]


@pytest.mark.parametrize(
    ("given", "of_the_model", "length"), [(None, None, DEFAULT_NEW_TOKENS), (None, 7, 7), (3, 7, 3), (9, 7, 9)]
)
def test_an_answer_ends_at_the_limit_given_or_the_models_own(says, monkeypatch, given, of_the_model, length):
    llm, _ = says("x" * 200, end=False)
    monkeypatch.setattr(llm.model.generation_config, "max_new_tokens", of_the_model)
    answers = list(llm.answering(prefixes()[0], FIRST, max_new_tokens=given))
    assert answers[-1].new_tokens == len(answers) == length and answers[-1].text == "x" * length
    passed = [answer.total_s for answer in answers]
    assert passed == sorted(set(passed)) and passed[-1] >= length * 2e-3


def test_blanks_around_a_question_change_nothing():
    llm = tiny(MODEL)
    assert llm.question_ids(f"  {FIRST}\n").tolist() == llm.question_ids(FIRST).tolist()


def test_timings_hold_what_was_spent_before_the_prefix():
    """Decoding, the vision encoder, and the layers before the merge layer, which are part of the prefill."""
    llm = tiny(MODEL)
    video = replace(encoded(), clip=replace(clip(), decode_s=3.0), vision_s=5.0, early_s=7.0)
    for plan in (None, plan_for(encoded())):
        timings = llm.answer(llm.prefill(video, plan), FIRST, max_new_tokens=1).timings
        assert (timings.decode, timings.vision) == (3.0, 5.0)
        assert 7 < timings.prefill < 8 and timings.ttft > 15


@pytest.mark.parametrize("earlier", [0, 10**15])
def test_an_answers_peak_is_the_higher_one(earlier):
    llm, prefix = tiny(MODEL), replace(prefixes()[0], peak_bytes=earlier)
    found = llm.answer(prefix, FIRST, max_new_tokens=1).peak_bytes
    assert found == earlier if earlier else found >= 0
    if not earlier and llm.prefill(encoded()).peak_bytes is not None:
        assert found > 0


@pytest.mark.parametrize("root_level", [0, 1, 2])
def test_the_root_level_reaches_the_tables(root_level):
    settings = RunSettings.of(tau_spatial=-1.0, tau_temporal=0.0, root_level=root_level)
    plan = encoded().plan(settings)
    assert plan.tree.root_level == root_level
    assert tiny(MODEL).prefill(encoded(), plan).video_tokens == 5 * (2 << root_level) ** 2


def test_a_prefix_is_of_exactly_the_plan_that_it_was_given():
    """A plan by other tables than the video's own thresholds would give: nothing may be planned again."""
    video = encoded()
    other = tiny(MODEL).encode(clip(seed=7), merge_layer=2)
    plan = similarity_tables(other.tokens.flip(0)).plan(0.97, 0.97)
    prefix = tiny(MODEL).prefill(video, plan)
    assert prefix.plan.member_of.tolist() == plan.member_of.tolist()
    assert prefix.plan.member_of.tolist() != video.tables.plan(0.97, 0.97).member_of.tolist()
    assert prefix.video_tokens == plan.num_tokens


def test_a_timed_prefix_decides_anew_and_decides_the_same():
    video = encoded()
    plan = video.plan(RunSettings.of(retention=0.4))
    timed = tiny(MODEL).timed_prefill(video, plan.method)
    assert timed.plan.member_of.tolist() == plan.member_of.tolist() and timed.timings.merge > 0
    assert tiny(MODEL).timed_prefill(video, None).plan is None


def test_a_plan_brings_its_rules_and_its_weighting():
    video = encoded()
    plan = similarity_tables(video.tokens, weighting="patches").plan(0.9, 0.9, "as_released")
    prefix = tiny(MODEL).prefill(video, plan)
    assert (prefix.plan.rules, prefix.plan.weighting) == ("as_released", "patches")
    assert prefix.plan.member_of.tolist() == plan.member_of.tolist()


def test_what_a_store_counts_is_what_a_video_holds():
    video = tiny(MODEL).encode(clip())
    alone = footprint(allocations(video)).host
    cached = sum(part.nbytes for part in video.early.keys + video.early.values)
    large = video.hidden.nbytes + video.clip.frames.nbytes + cached
    positions = sum(part.nbytes for part in (*video.positions.embeddings, video.layout.index, video.clip.times))
    assert cached > 0 and 0 <= alone - large - positions < 100  # and a few numbers
    assert footprint(allocations(video, video.tables)).host >= alone + video.tables.nbytes  # made now
    prefix = tiny(MODEL).prefill(video)
    late = prefix.nbytes - cached  # the layers before the merge layer are the video's
    assert footprint(allocations(prefix)).host == footprint(allocations(video)).host + late


def test_compiling_reaches_every_layer_of_the_vision_encoder(monkeypatch):
    torch.manual_seed(0)
    llm, compiled = VideoLLM(*TINY[MODEL].build("sdpa"), family_of(MODEL), "tiny"), []
    plain = llm.encode(clip()).hidden
    monkeypatch.setattr(torch, "compile", lambda forward: compiled.append(forward) or forward)
    llm.compile_vision()
    assert [one.__self__ for one in compiled] == list(llm.family.vision(llm.model).encoder.layers) and compiled
    assert torch.equal(llm.encode(clip()).hidden, plain)


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
    with pytest.raises(ValueError, match=said) as caught:
        call(tiny(MODEL), encoded())
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_an_unknown_architecture_names_the_known_ones_and_the_file_to_write():
    with pytest.raises(ValueError) as caught:
        family_of("banana_vl")
    assert "sttm_core/models/banana_vl.py" in str(caught.value)
    assert all(family.title in str(caught.value) for family in FAMILIES.values())


def test_things_print_what_they_are():
    llm, video = tiny(MODEL), encoded()
    assert repr(video) == "EncodedVideo('blocks', 5x8x8 tokens before layer 2, tiny llava_onevision)"
    assert repr(llm.prefill(video)).startswith(f"Prefix({video.layout.length} -> {video.layout.length} tokens, ")
    assert isinstance(llm, VideoLLM) and llm.num_layers == LAYERS and llm.default_merge_layer == 2
