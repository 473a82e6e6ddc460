"""What a question may be and take: refused before anything runs, or ended with a note."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import Qwen2Config, Qwen2VLTextConfig

from sttm_core import limits
from sttm_core.comparison import compare
from sttm_core.engine import TimeUpError
from sttm_core.limits import QUESTION_CHARACTERS, Allowance, check_context, check_question, context_length
from sttm_core.loading import _scale_rope
from sttm_core.model_call import ModelCall
from sttm_core.settings import RunSettings
from tests.core.tiny import TINY, clip, hook_counts, tiny

MODEL, QUESTION, CONTEXT = "llava_onevision", "What is shown?", 4096


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved: ``clock[0] += 5``."""
    now = [1000.0]
    monkeypatch.setattr(limits, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("length, fits", [(1, True), (QUESTION_CHARACTERS, True), (QUESTION_CHARACTERS + 1, False)])
def test_a_question_has_a_longest_length(length, fits):
    if fits:
        assert check_question("  " + "x" * length + "\n") == "x" * length
        return
    with pytest.raises(ValueError, match=f"^the question has {length} characters, and at most {length - 1} are read"):
        check_question("x" * length)


@pytest.mark.parametrize(
    "rope, context",
    [
        ({"rope_type": "default"}, 32768),
        ({"rope_type": "linear", "factor": 2.0}, 65536),
        ({"rope_type": "dynamic", "factor": 1.5}, 49152),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}, 32768),
    ],
)
def test_the_context_is_the_configs_scaling_included(rope, context):
    config = Qwen2Config(max_position_embeddings=32768)
    config.rope_parameters = {"rope_theta": 1e6} | rope
    assert context_length(config) == context


def test_rope_factor_makes_the_context_longer():
    for text in (Qwen2Config(max_position_embeddings=32768), Qwen2VLTextConfig(max_position_embeddings=32768)):
        _scale_rope(text, 2.0)
        assert context_length(text) == 65536
    assert context_length(nn.Module()) is None


@pytest.mark.parametrize("answer, fits", [(96, True), (97, False)])
def test_video_question_and_answer_share_the_context(answer, fits):
    if fits:
        return check_context(1000, 800, 104, answer)
    with pytest.raises(ValueError, match="^the video takes 800 positions, .*together 1001, .*context has 1000; use"):
        check_context(1000, 800, 104, answer)


@pytest.fixture
def in_use(monkeypatch):
    """The shared tiny model, and a list of what ran in it: nothing, when a question is refused."""
    llm, ran = tiny(MODEL), []
    handles = [module.register_forward_pre_hook(lambda *_: ran.append(1)) for module in llm.model.modules()]
    yield llm, ran
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize(
    "frames, question, new_tokens, said",
    [
        (5, "x" * 20_000, None, "the question has 20000 characters"),
        (5, "What code is shown? " * 1000, None, "the question has 19999 characters"),
        (5, "x" * 3900, 4, "the video takes 320 positions, the question 39"),
        (70, QUESTION, 4, "the video takes 4480 positions"),
        (5, QUESTION, 4000, "the answer up to 4000"),
    ],
)
def test_what_the_context_cannot_hold_is_refused_before_anything_runs(in_use, frames, question, new_tokens, said):
    llm, ran = in_use
    with pytest.raises(ValueError, match=said) as caught:
        compare(llm, clip(frames), question, RunSettings(), max_new_tokens=new_tokens, runs=1)
    assert not ran and str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_an_answer_is_checked_against_the_true_positions():
    """Where a prompt's own text makes the difference; with all but the last position taken one token is right."""
    llm, tail = tiny(MODEL), len(tiny(MODEL).question_ids(QUESTION))
    prefix = llm.prefill(llm.encode(clip()))
    left = CONTEXT - prefix.next_text - tail
    *early, late = prefix.next_positions
    last = replace(prefix, next_positions=(*early, late + left - 1))
    assert llm.answer(last, QUESTION, max_new_tokens=1).new_tokens == 1
    for moved in ((*early, late + left), (early[0] + left, *early[1:], late)):
        with pytest.raises(ValueError, match=f"together {CONTEXT + 1}"):
            llm.answer(replace(prefix, next_positions=moved), QUESTION, max_new_tokens=1)


@pytest.mark.parametrize("rule, fits", [("reassigned", True), ("survived", False), ("merged", False)])
def test_merged_tokens_that_keep_their_positions_leave_no_room(rule, fits):
    llm, video = tiny(MODEL), clip(60)  # 3840 of 4096 positions
    encoded = llm.encode(video, merge_layer=0)
    prefix = llm.prefill(encoded, encoded.tables.plan(0.0, 0.5), position_rule=rule)
    assert prefix.tokens_after < 1000
    asked = RunSettings.of(tau_spatial=0.0, tau_temporal=0.5, position_rule=rule, merge_layer=0)
    for ask in (
        lambda: llm.answer(prefix, QUESTION, max_new_tokens=300),
        lambda: compare(llm, video, QUESTION, asked, baseline=False, runs=1, max_new_tokens=300).merged,
    ):
        if fits:
            assert ask().new_tokens
        else:
            with pytest.raises(ValueError, match="context has 4096"):
                ask()


@pytest.mark.parametrize("frames, size", [(1, 0), (5, 0), (8, 1)])
@pytest.mark.parametrize("model_type", TINY)
def test_no_video_takes_fewer_positions_than_are_counted_before(model_type, frames, size):
    llm = tiny(model_type)
    encoded = llm.encode(clip(frames, TINY[model_type].sizes[size]))
    assert 0 < llm.family.fewest_positions(encoded.layout.shape) <= encoded.positions.next


def test_the_clock_runs_while_the_model_is_held_only(clock):
    allowance, lock = Allowance(10), threading.RLock()
    for _ in range(2):
        with ModelCall(lock, "working", allowance):
            clock[0] += 4
        clock[0] += 100  # others' turn
    assert allowance.spent == 8 and not allowance.over
    with ModelCall(lock, "working", allowance):
        clock[0] += 2
        assert allowance.over
    with pytest.raises(TimeUpError, match="hold the model for 10 s, which passed while asking;"):
        ModelCall(lock, "asking", allowance).__enter__()
    assert lock.acquire(timeout=1)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_no_time_at_all_is_refused(seconds):
    with pytest.raises(ValueError, match="more than 0 seconds"):
        Allowance(seconds)


def slowly(clock, module: nn.Module, seconds: float):
    return module.register_forward_pre_hook(lambda *_: clock.__setitem__(0, clock[0] + seconds))


@pytest.mark.parametrize("where", ["vision", "decoder"])
@pytest.mark.parametrize("stage", ["encode", "prefill", "question"])
def test_encoding_and_prefilling_end_between_two_layers(clock, where, stage):
    llm = tiny(MODEL)
    encoded = llm.encode(clip(), merge_layer=1)
    prefix, before = llm.prefill(encoded), hook_counts(llm.model)
    slow = llm.model.model.vision_tower.encoder.layers[0] if where == "vision" else llm.decoder.layers[-2]
    if stage == "encode" and where == "decoder":
        slow = llm.decoder.layers[0]
    calls = {
        "encode": lambda allowance: llm.encode(clip(), merge_layer=2, allowance=allowance),
        "prefill": lambda allowance: llm.prefill(encoded, allowance=allowance),
        "question": lambda allowance: llm.answer(prefix, QUESTION, max_new_tokens=3, allowance=allowance),
    }
    handle = slowly(clock, slow, 7)
    try:
        if where == "vision" and stage != "encode":
            calls[stage](Allowance(5))  # the vision encoder has no part in it
        else:
            with pytest.raises(TimeUpError, match="^A question may hold the model for 5 s, .*\\.$"):
                calls[stage](Allowance(5))
    finally:
        handle.remove()
    assert hook_counts(llm.model) == before and not torch.is_inference_mode_enabled()
    assert calls[stage](Allowance(5)) and calls[stage](None)


def test_an_answer_ends_with_a_note_when_its_time_is_over(clock):
    llm = tiny(MODEL)
    prefix = llm.prefill(llm.encode(clip()))
    whole = llm.answer(prefix, QUESTION, max_new_tokens=6)
    assert whole.new_tokens >= 5 and whole.stopped == ""
    handle = slowly(clock, llm.decoder.layers[0], 2)  # 2 s for each token, the first included
    try:
        answers = list(llm.answering(prefix, QUESTION, max_new_tokens=6, allowance=Allowance(5)))
        in_time = llm.answer(prefix, QUESTION, max_new_tokens=6, allowance=Allowance(30))
    finally:
        handle.remove()
    assert [(one.new_tokens, one.finished, one.stopped) for one in answers] == [
        (1, False, ""), (2, False, ""), (3, True, "stopped after 5 s"),
    ]  # fmt: skip
    assert whole.text.startswith(answers[-1].text) and (in_time.text, in_time.stopped) == (whole.text, "")
