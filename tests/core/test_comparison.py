"""Comparing both answers: settings out of range, what is compared, and how runs become timings."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import fields

import pytest

from sttm_core import comparison, thresholds_for_retention
from sttm_core.comparison import compare
from sttm_core.engine import VideoLLM
from sttm_core.methods.sttm.budget import EXPONENTS
from sttm_core.settings import RunSettings
from sttm_core.timing import Timings
from tests.core.tiny import clip, tiny

QUESTION = "What is it?"
SETTINGS = RunSettings.of(tau_spatial=0.8, tau_temporal=0.7)


@pytest.fixture(scope="module")
def llm() -> VideoLLM:
    return tiny("llava_onevision")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"tau_spatial": math.nan}, "The spatial threshold τ_S must lie between -1 and 2, got nan."),
        ({"tau_spatial": math.inf}, "The spatial threshold τ_S must lie between -1 and 2, got inf."),
        ({"tau_spatial": 2.001}, "The spatial threshold τ_S must lie between -1 and 2, got 2.001."),
        ({"tau_temporal": -1.5}, "The temporal threshold τ_T must lie between -1 and 2, got -1.5."),
        ({"retention": 0}, "The budget must lie above 0% and at most 100%, got 0%."),
        ({"retention": -0.2}, "The budget must lie above 0% and at most 100%, got -20%."),
        ({"retention": 1.01}, "The budget must lie above 0% and at most 100%, got 101%."),
        ({"retention": math.nan}, "The budget must lie above 0% and at most 100%, got nan%."),
        ({"rules": "mine"}, "The rules must be one of paper, as_released, bottom_up, got 'mine'."),
        ({"position_rule": "first"}, "The position rule must be one of reassigned, survived, merged, got 'first'."),
        ({"prefer": "time"}, "A budget may prefer balanced, spatial, temporal, got 'time'."),
    ],
)
def test_settings_out_of_range_are_one_sentence(wrong: dict, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        RunSettings.of(**wrong)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "edge",
    [
        {"tau_spatial": -1.0, "tau_temporal": -1.0},
        {"tau_spatial": 2.0, "tau_temporal": 2.0},
        {"retention": 1},
        {"retention": 1e-6, "rules": "as_released", "position_rule": "survived"},
    ],
)
def test_settings_at_the_edge_are_taken(edge: dict) -> None:
    assert edge.items() <= RunSettings.of(**edge).as_dict().items()


def test_a_budget_replaces_the_thresholds(llm: VideoLLM) -> None:
    encoded = llm.encode(clip())
    plan = encoded.plan(RunSettings.of(tau_spatial=2.0, tau_temporal=0.0, retention=0.5))
    assert 0 < plan.retention <= 0.5
    assert encoded.plan(RunSettings.of(tau_spatial=2.0, tau_temporal=0.0)).retention == 1


def test_a_budget_that_is_just_kept_is_not_missed(llm: VideoLLM) -> None:
    encoded = llm.encode(clip())
    reached = encoded.plan(RunSettings.of(retention=0.5)).retention
    for budget, missed in ((reached, ""), (0.001, "The budget of 0.1% can't be reached")):
        result = compare(llm, clip(), QUESTION, RunSettings.of(retention=budget), runs=1, max_new_tokens=1)
        assert result.budget_missed.startswith(missed) and bool(result.budget_missed) == bool(missed)


def test_a_stage_that_merges_nothing_is_said(llm: VideoLLM) -> None:
    for taus, stage, said in (((2.0, 0.5), "spatial", "in space"), ((0.5, 0.0), "temporal", "through time")):
        settings = RunSettings.of(tau_spatial=taus[0], tau_temporal=taus[1])
        result = compare(llm, clip(), QUESTION, settings, baseline=False, runs=1, max_new_tokens=1)
        found = result.as_dict()
        assert found["idle_stage"] == stage and said in found["idle_note"] == result.idle_note
    settings = RunSettings.of(tau_spatial=2.0, tau_temporal=2.0)
    result = compare(llm, clip(), QUESTION, settings, baseline=False, runs=1, max_new_tokens=1)
    assert (result.as_dict()["idle_stage"], result.idle_note) == ("", "")  # nothing merges at all: no stage is to blame


@pytest.mark.parametrize("prefer", EXPONENTS)
def test_a_budget_goes_the_way_that_is_preferred(llm: VideoLLM, prefer: str) -> None:
    encoded = llm.encode(clip())
    found = thresholds_for_retention(encoded.tables, 0.4, prefer=prefer)
    plan = encoded.plan(RunSettings.of(retention=0.4, prefer=prefer))
    assert (plan.tau_spatial, plan.tau_temporal) == (found.tau_spatial, found.tau_temporal)


def test_both_answers_are_the_engines(llm: VideoLLM) -> None:
    result = compare(llm, clip(), QUESTION, SETTINGS, runs=2, max_new_tokens=6)
    encoded = llm.encode(clip())
    plan = encoded.tables.plan(0.8, 0.7)
    assert 0 < plan.retention < 1  # something is merged, or this compares nothing
    assert result.plan.num_tokens == plan.num_tokens
    for answer, column in ((result.baseline, None), (result.merged, plan)):
        wanted = llm.answer(llm.prefill(encoded, column), QUESTION, max_new_tokens=6)
        assert (answer.text, answer.new_tokens) == (wanted.text, wanted.new_tokens)
        assert (answer.prompt_tokens, answer.kv_bytes) == (wanted.prompt_tokens, wanted.kv_bytes)
    assert result.same_answer == (result.baseline.text == result.merged.text)
    assert result.speedup == result.baseline.ttft / result.merged.ttft


def test_timings_are_finite_and_the_baseline_spends_nothing_on_merging(llm: VideoLLM) -> None:
    result = compare(llm, clip(), QUESTION, SETTINGS, runs=1, max_new_tokens=1)
    for answer in (result.baseline, result.merged):
        assert all(seconds >= 0 and math.isfinite(seconds) for seconds in answer.timings.as_dict().values())
        assert min(answer.timings.vision, answer.timings.prefill, answer.timings.first_token) > 0
    assert result.baseline.timings.merge == 0 < result.merged.timings.merge


def test_without_the_baseline_nothing_is_compared(llm: VideoLLM) -> None:
    stages = []
    result = compare(llm, clip(), QUESTION, SETTINGS, baseline=False, runs=1, max_new_tokens=2, progress=stages.append)
    assert (result.baseline, result.speedup, result.same_answer) == (None, None, None)
    found = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert (found["baseline"], found["ttft_ratio"], found["same_answer"]) == (None, None, None)
    assert found["merged"]["text"] == result.merged.text
    assert stages == ["encoding 5 frames", f"answering from {result.plan.num_tokens} tokens", "timing 1 runs"]


@pytest.mark.parametrize("runs", [1, 2, 5])
def test_each_stage_is_the_median_of_its_runs(llm: VideoLLM, monkeypatch: pytest.MonkeyPatch, runs: int) -> None:
    given = {"baseline": [], "merged": []}

    def first_token(llm, encoded, method, question, position_rule) -> Timings:
        of = given["baseline" if method is None else "merged"]
        number = len(of) + 1
        of.append(Timings(number % 3, number**2, -number, 7 % number, 1 / number))
        return of[-1]

    monkeypatch.setattr(comparison, "first_token", first_token)
    result = compare(llm, clip(), QUESTION, SETTINGS, runs=runs, max_new_tokens=1)
    for name, answer in (("baseline", result.baseline), ("merged", result.merged)):
        assert len(given[name]) == runs == result.runs
        for stage in fields(Timings):
            wanted = statistics.median(getattr(run, stage.name) for run in given[name])
            assert getattr(answer.timings, stage.name) == wanted


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"runs": 0}, "runs must be at least 1, got 0."),
        ({"question": "  "}, "the question is empty"),
        ({"settings": RunSettings.of(merge_layer=4)}, "the merge layer must lie between 0 and 3"),
    ],
)
def test_what_is_wrong_is_said_before_the_model_runs(llm: VideoLLM, wrong: dict, sentence: str) -> None:
    arguments = {"question": QUESTION, "settings": SETTINGS, "runs": 1} | wrong
    runs_of_the_vision_tower = []
    hook = llm.model.model.vision_tower.register_forward_hook(lambda *_: runs_of_the_vision_tower.append(1))
    try:
        with pytest.raises(ValueError, match=sentence):
            compare(llm, clip(), arguments.pop("question"), arguments.pop("settings"), **arguments)
    finally:
        hook.remove()
    assert not runs_of_the_vision_tower


@pytest.mark.parametrize("name", ["fastv", "framefusion"])
def test_a_method_inside_layers_is_compared_and_timed_like_any_other(name: str) -> None:
    result = compare(tiny("llava_onevision"), clip(), QUESTION, RunSettings.of(name, retention=0.3), runs=2)
    said = json.loads(json.dumps(result.as_dict()))
    assert said["settings"]["method"] == said["merged"]["method"] == name
    assert 0.28 < said["merged"]["kept"] <= 0.3 and said["tokens"]["kept"] == result.plan.num_tokens
    assert said["merged"]["timings_s"]["merge"] > 0 and not said["budget_missed"]
    assert said["settings"]["position_rule"] == "survived"
    assert said["settings"]["merge_layer"] == {"fastv": 2, "framefusion": 0}[name]
