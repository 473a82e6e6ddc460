"""What `merging` and `generate` inside it refuse: each in one sentence, and nothing stays on the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from transformers import DynamicCache

from sttm_core import merging
from sttm_core.method import METHODS, Method, make_method
from tests.core.batches import batch, cache_name, generated
from tests.core.tiny import TINY, clip, hook_counts, tiny

MODEL, SHORT, KEEP = "llava_onevision", "Hi?", {"retention": 0.3}


@dataclass(frozen=True)
class Elsewhere(Method):
    name: ClassVar[str] = "elsewhere"
    title: ClassVar[str] = "Elsewhere"
    paper: ClassVar[str] = "none"


@dataclass(frozen=True)
class InLayers(Elsewhere):
    acts_on: ClassVar[str] = "layers"
    query_aware: ClassVar[bool] = True


@dataclass(frozen=True)
class OnPixels(Elsewhere):
    acts_on: ClassVar[str] = "pixels"


@dataclass(frozen=True)
class Curious(Elsewhere):
    query_aware: ClassVar[bool] = True


BAD = [
    ({"merge_layer": 4}, "between 0 and 3 for this model, got 4"),
    ({"merge_layer": -1}, "got -1"),
    ({"position_rule": "nearest"}, "got 'nearest'"),
    ({"method": "magic"}, "there is no method 'magic'"),
    ({"method": make_method("tome"), "ratio": 0.5}, "has its knobs already; set 'ratio' there"),
    ({"ratio": 0.5}, "sttm has no 'ratio'"),
    ({"retention": 0.0}, "above 0%"),
    ({"method": InLayers()}, "Elsewhere acts on layers, and merging takes methods that act on video tokens alone"),
    ({"method": OnPixels()}, "Elsewhere acts on pixels, and"),
    ({"method": Curious()}, "Elsewhere looks at the question, and"),
]


@pytest.mark.parametrize("given, said", BAD)
def test_bad_options_are_refused_and_leave_no_hooks(given, said):
    llm = tiny(MODEL)
    before = hook_counts(llm.model)
    with pytest.raises(ValueError, match=said), merging(llm.model, **given):
        pytest.fail("went in")
    assert hook_counts(llm.model) == before


def test_registered_methods_that_act_elsewhere_are_refused():
    for name, kind in METHODS.items():
        if kind.acts_on != "tokens" or kind.query_aware:
            with pytest.raises(ValueError, match="merging takes methods"), merging(tiny(MODEL).model, name):
                pytest.fail("went in")


def test_what_is_no_supported_model_is_refused(monkeypatch):
    llm = tiny(MODEL)
    with pytest.raises(ValueError, match="^merging takes a model of transformers, such as llm.model, got VideoLLM.$"):
        merging(llm).__enter__()
    monkeypatch.setattr(llm.decoder.config, "_attn_implementation", "flex_attention")
    with pytest.raises(ValueError, match="eager, sdpa and flash attention, got 'flex_attention'"):
        merging(llm.model).__enter__()


CALLS = {
    "StaticLayer": {"cache_implementation": "static"},
    "assisted decoding does not run merged": {"prompt_lookup_num_tokens": 2},
    "prefill_chunk_size": {"prefill_chunk_size": 64},
}


@pytest.mark.parametrize("model_type", [MODEL, "qwen2_5_vl"])
@pytest.mark.parametrize("said", sorted(CALLS))
def test_calls_that_merging_can_not_serve_are_refused_in_one_sentence(model_type, said):
    llm, shown = tiny(model_type), clip(5, TINY[model_type].sizes[0])
    inputs = batch(llm, model_type, [(shown, "What? What? What?")])
    generated(llm, inputs, 1)  # transformers adds hooks of its own at first
    before = hook_counts(llm.model)
    with merging(llm.model, **KEEP), pytest.raises(ValueError, match=said):
        generated(llm, inputs, **CALLS[said])
    assert hook_counts(llm.model) == before


def test_passes_that_merging_can_not_serve_are_refused_in_one_sentence():
    llm, inputs = tiny(MODEL), batch(tiny(MODEL), MODEL, [(clip(), SHORT)])
    embeds = llm.model.get_input_embeddings()(inputs["input_ids"])
    text, cache = batch(llm, MODEL, [(None, SHORT)]), DynamicCache()
    with torch.no_grad(), merging(llm.model, **KEEP):
        with pytest.raises(ValueError, match="pass input_ids, not inputs_embeds"):
            llm.model(inputs_embeds=embeds)
        with pytest.raises(ValueError, match="leave labels out"):
            llm.model(**inputs, labels=inputs["input_ids"])
        square = torch.ones(1, 1, 8, 8, dtype=torch.bool)
        with pytest.raises(ValueError, match=r"attention_mask of shape \[1, 344\]"):
            llm.model(**inputs | {"attention_mask": square})
        name = cache_name(llm.model(**text, use_cache=True))
        llm.model(**text, use_cache=True, **{name: cache})
        with pytest.raises(ValueError, match="can't add a video or an image behind a cache"):
            llm.model(**inputs, **{name: cache})
