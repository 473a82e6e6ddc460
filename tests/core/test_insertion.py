"""Hooks on one instance inside a `with`: they do their work, and nothing stays."""

from __future__ import annotations

import pytest
import torch

from sttm_core import merge_tokens
from sttm_core.insertion import LayerReached, hooks, merging, stop_before_layer
from tests.core.test_engine import FIRST, MODEL, encoded
from tests.core.tiny import clip, hook_counts, plain_inputs, tiny


def test_merging_nothing_changes_nothing():
    llm, inputs = tiny(MODEL), plain_inputs(tiny(MODEL), MODEL, clip(), FIRST)
    with torch.no_grad():
        plain = llm.model(**inputs).logits[0, -1]
        with merging(llm.model, llm.family, encoded().layout, tau_spatial=2.0, tau_temporal=2.0) as engaged:
            hooked = llm.model(**inputs).logits[0, -1]
        assert torch.equal(llm.model(**inputs).logits[0, -1], plain)
    assert engaged.plan.retention == 1.0 and (plain - hooked).abs().max() < 1e-5


@pytest.mark.parametrize("given", [{}, {"root_level": 0}, {"rules": "as_released"}, {"merge_layer": 0}])
def test_options_reach_the_plan(given):
    llm, inputs = tiny(MODEL), plain_inputs(tiny(MODEL), MODEL, clip(), FIRST)
    video = encoded(given.get("merge_layer", 2))
    with (
        torch.no_grad(),
        merging(llm.model, llm.family, video.layout, tau_spatial=-1.0, tau_temporal=0.9, **given) as engaged,
    ):
        llm.model(**inputs)
    expected = merge_tokens(
        video.tokens, -1.0, 0.9, root_level=given.get("root_level", 1), rules=given.get("rules", "paper")
    ).plan
    assert engaged.plan.member_of.tolist() == expected.member_of.tolist()
    assert (engaged.plan.rules, engaged.plan.tree.root_level) == (expected.rules, expected.tree.root_level)


@pytest.mark.parametrize("given", [{"merge_layer": 4}, {"merge_layer": -1}, {"position_rule": "nearest"}])
def test_bad_options_are_refused_and_leave_no_hooks(given):
    llm = tiny(MODEL)
    before = hook_counts(llm.model)
    with (
        pytest.raises(ValueError, match=rf"got '?{next(iter(given.values()))}'?\."),
        merging(llm.model, llm.family, encoded().layout, tau_spatial=0.9, tau_temporal=0.9, **given),
    ):
        pytest.fail("went in")
    assert hook_counts(llm.model) == before


def test_nothing_is_left_after_an_exception_inside_merging():
    llm = tiny(MODEL)
    before = hook_counts(llm.model)
    with pytest.raises(KeyError), merging(llm.model, llm.family, encoded().layout, tau_spatial=0.9, tau_temporal=0.9):
        assert hook_counts(llm.model) != before
        raise KeyError
    assert hook_counts(llm.model) == before


def test_a_batch_of_two_is_refused():
    llm, inputs = tiny(MODEL), plain_inputs(tiny(MODEL), MODEL, clip(), FIRST)
    before = hook_counts(llm.model)
    two = {name: torch.cat([value, value]) for name, value in inputs.items()}
    with (
        pytest.raises(ValueError, match="batch of 2"),
        merging(llm.model, llm.family, encoded().layout, tau_spatial=0.9, tau_temporal=0.9),
    ):
        llm.model(**two)
    assert hook_counts(llm.model) == before


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_a_pass_stops_before_its_layer_and_shows_what_came_there(layer):
    llm, inputs = tiny(MODEL), plain_inputs(tiny(MODEL), MODEL, clip(), FIRST)
    before, ran = hook_counts(llm.model), []
    layers = enumerate(llm.decoder.layers)
    watchers = [layer_.register_forward_hook(lambda m, a, o, i=i: ran.append(i)) for i, layer_ in layers]
    with torch.no_grad(), stop_before_layer(llm.decoder, layer, lambda: None) as arrival:
        llm.model(**inputs)
    for watcher in watchers:
        watcher.remove()
    assert ran == list(range(layer))
    assert hook_counts(llm.model) == before
    with torch.no_grad():
        expected = llm.model(**inputs, output_hidden_states=True).hidden_states[layer]
    assert torch.equal(arrival.hidden, expected)
    assert arrival.position_ids.tolist() == [list(range(inputs["input_ids"].shape[1]))]
    assert arrival.decoder_started > 0


@pytest.mark.parametrize("error", [RuntimeError, LayerReached, KeyboardInterrupt])
def test_hooks_are_removed_after_any_exception(error):
    module = torch.nn.Linear(2, 2)
    with pytest.raises(error), hooks(module.register_forward_hook(print), module.register_forward_pre_hook(print)):
        raise error
    assert hook_counts(module) == [(0, 0, 0, 0)]
