"""Hooks on one instance inside a `with`: they do their work, and nothing stays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sttm_core.insertion import LayerReached, hooks, stop_before_layer
from tests.core.test_engine import FIRST, MODEL
from tests.core.tiny import clip, hook_counts, plain_inputs, tiny


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


def test_a_pass_of_another_thread_does_not_stop():
    llm, inputs = tiny(MODEL), plain_inputs(tiny(MODEL), MODEL, clip(), FIRST)
    with torch.no_grad(), ThreadPoolExecutor(1) as other, stop_before_layer(llm.decoder, 1, lambda: None) as arrival:
        plain = other.submit(torch.no_grad()(llm.model), **inputs).result().logits
        assert arrival.hidden is None
        llm.model(**inputs)
    assert plain.shape[1] == inputs["input_ids"].shape[1] and arrival.hidden is not None
