"""Methods inside layers on every family: a naive decoder that keeps every attention matrix says the same."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from transformers import DynamicCache

from sttm_core.comparison import budget_missed, settings_used
from sttm_core.decoder import run_layers
from sttm_core.inside_layers import last_query_attention, mlp, up_to_mlp
from sttm_core.method import Method
from sttm_core.methods import FastV, FrameFusion
from sttm_core.methods.framefusion import TRIALS
from sttm_core.settings import RunSettings
from sttm_core.stages import OtherQuestionError, Prefix
from tests.core import by_hand, naive_layers
from tests.core.tiny import LAYERS, TINY, clip, hook_counts, plain_inputs, tiny

FAMILIES = sorted(TINY)
QUESTION, OTHER = "What is shown?", "And then, where?"
every_family = pytest.mark.parametrize("model_type", FAMILIES)


def merge_layer(model_type: str, method: type[Method]) -> int:
    return settings_used(tiny(model_type), RunSettings.of(method.name)).merge_layer


@cache
def encoded(model_type: str, layer: int, seed: int = 0):
    return tiny(model_type).encode(clip(5, TINY[model_type].sizes[0], seed), merge_layer=layer)


@cache
def prompt(model_type: str, seed: int = 0, question: str = QUESTION) -> by_hand.Prompt:
    llm, row = tiny(model_type), TINY[model_type]
    inputs = plain_inputs(llm, model_type, clip(5, row.sizes[0], seed), question)
    token = llm.processor.tokenizer.convert_tokens_to_ids(row.patch_token)
    places = by_hand.places_of(inputs, token, row.grid(5, 0))
    return by_hand.Prompt(inputs, places, by_hand.positions_of(llm.model, inputs))


def assert_same(prefix: Prefix, naive: naive_layers.Pass) -> None:
    """Equal tokens in every layer, equal record of every patch, equal logits."""
    assert prefix.layer_tokens == tuple(naive.seen)
    video = [row for row in naive.rows if row.patch is not None]
    assert prefix.plan.places.tolist() == [row.patch for row in video]
    went = {patch: (i, float(share)) for i, row in enumerate(video) for patch, share in row.parts.items()}
    for patch, token in enumerate(prefix.plan.member_of.flatten().tolist()):
        expected, share = went.get(patch, (-1, 0.0))
        assert token == expected
        assert float(prefix.plan.share[patch]) == pytest.approx(share)
    assert (prefix.logits - naive.logits()).abs().max() < 1e-4


@pytest.mark.parametrize(("ratio", "seed"), [(0.5, 0), (0.7, 3), (0.85, 0)])
@every_family
def test_fastv_keeps_what_the_whole_attention_matrix_says(model_type: str, ratio: float, seed: int) -> None:
    layer = merge_layer(model_type, FastV)
    video = encoded(model_type, layer, seed)
    prefix = tiny(model_type).prefill_for(video, FastV(ratio=ratio), QUESTION)
    kept = round(video.layout.num_patches * (1 - ratio))
    assert_same(prefix, naive_layers.fastv(tiny(model_type, "eager"), prompt(model_type, seed), [], layer, kept))
    assert prefix.layer_tokens == (video.layout.num_patches,) * layer + (kept,) * (LAYERS - layer)


@pytest.mark.parametrize(
    ("cost", "similarity", "seed"),
    [("0.8", 0.6, 0), ("0.5", 0.6, 3), ("0.3", 0.6, 0), ("0.2", 0.3, 3), ("0.9", 0.9, 0), ("0.35", 1.0, 0)],
)
@every_family
def test_framefusion_is_what_its_description_says(model_type: str, cost: str, similarity: float, seed: int) -> None:
    layer = merge_layer(model_type, FrameFusion)
    prefix = tiny(model_type).prefill_for(
        encoded(model_type, layer, seed), FrameFusion(cost=float(cost), similarity=similarity), QUESTION
    )
    eager = tiny(model_type, "eager")
    assert_same(prefix, naive_layers.framefusion(eager, prompt(model_type, seed), [], layer, cost, similarity))


def test_the_table_above_reaches_every_end() -> None:
    """Cost met at once, after several merges, and by pruning; counted, so that no branch goes untried."""
    llm, video = tiny("llava_onevision"), encoded("llava_onevision", 0)
    at_once, several, pruned = (
        llm.prefill_for(video, FrameFusion(cost=cost, similarity=similarity), QUESTION)
        for cost, similarity in ((0.5, 0.3), (0.2, 0.3), (0.35, 1.0))
    )
    assert len(set(at_once.layer_tokens)) == 1 and not at_once.plan.num_dropped
    assert len(set(several.layer_tokens)) == 3 and several.plan.num_dropped
    assert len(set(pruned.layer_tokens)) == 2 and (pruned.plan.patch_counts == 1).all()


@pytest.mark.parametrize("cost", [0.5, 0.3])
@every_family
def test_a_cost_is_the_average_over_layers(model_type: str, cost: float) -> None:
    """With nothing to merge the first layer sees all, so that less is left than the cost."""
    layer = merge_layer(model_type, FrameFusion)
    video = encoded(model_type, layer)
    patches, method = video.layout.num_patches, FrameFusion(cost=cost, similarity=1.0)
    prefix = tiny(model_type).prefill_for(video, method, QUESTION)
    full = layer + 1
    left = max(1, round(patches * (LAYERS * cost - full) / (LAYERS - full))) if full < LAYERS else patches
    assert prefix.layer_tokens == (patches,) * full + (left,) * (LAYERS - full)
    if left > 1 and full < LAYERS:
        assert prefix.shares["layer_average"] == pytest.approx(cost, abs=1 / patches)
        assert prefix.shares["kept"] < cost


@pytest.mark.parametrize("method", [FastV(retention=1), FastV(ratio=0), FrameFusion(cost=1), FrameFusion(retention=1)])
@every_family
def test_with_all_tokens_the_logits_are_those_of_plain_transformers(model_type: str, method: Method) -> None:
    llm = tiny(model_type)
    plain = llm.model(**prompt(model_type).inputs, logits_to_keep=1).logits[0, -1]
    prefix = llm.prefill_for(encoded(model_type, merge_layer(model_type, type(method))), method, QUESTION)
    assert prefix.plan.changes_nothing and (prefix.logits - plain).abs().max() < 1e-4
    assert llm.first_token_logits(prefix, QUESTION).equal(prefix.logits)


@every_family
def test_answers_go_on_as_the_whole_prompt_would(model_type: str) -> None:
    """Layers with different lengths and gaps in their positions take the answer's tokens."""
    llm, eager, asked = tiny(model_type), tiny(model_type, "eager"), prompt(model_type)
    first, layer = merge_layer(model_type, FrameFusion), merge_layer(model_type, FastV)
    kept = round(asked.places.size * 0.3)
    tried = {
        FastV(ratio=0.7): lambda ids: naive_layers.fastv(eager, asked, ids, layer, kept),
        FrameFusion(cost=0.3): lambda ids: naive_layers.framefusion(eager, asked, ids, first, "0.3", 0.6),
    }
    for method, once in tried.items():
        prefix = llm.prefill_for(encoded(model_type, merge_layer(model_type, type(method))), method, QUESTION)
        expected = naive_layers.greedy(eager, once, 3)
        answer = llm.answer(prefix, QUESTION, max_new_tokens=3)
        assert answer.text == llm.processor.tokenizer.decode(expected, skip_special_tokens=True).strip()
        assert answer.shares == prefix.shares
        assert answer.prompt_tokens == prefix.tokens_after


@pytest.mark.parametrize("method", [FastV(retention=0.3), FrameFusion(cost=0.6, similarity=1.0)])
def test_a_prefix_answers_its_own_question_alone(method: Method) -> None:
    llm = tiny("llava_onevision")
    prefix = llm.prefill_for(encoded("llava_onevision", 2), method, f" {QUESTION}\n")
    assert llm.answer(prefix, QUESTION, max_new_tokens=2).text == llm.answer(prefix, QUESTION, max_new_tokens=2).text
    for call in (llm.answer, llm.first_token_logits):
        with pytest.raises(OtherQuestionError, match="was made for the question 'What is shown\\?'"):
            call(prefix, OTHER)
    other = llm.prefill_for(encoded("llava_onevision", 2), method, OTHER)
    assert other.plan.places.tolist() != prefix.plan.places.tolist(), "the question decides"
    for question in (None, "", "  "):
        with pytest.raises(ValueError, match="the question is empty"):
            llm.timed_prefill(encoded("llava_onevision", 2), method, question)


@pytest.mark.parametrize("budget", ["kept", "layer_average", "kv_bytes"])
@pytest.mark.parametrize("name", ["fastv", "framefusion"])
@pytest.mark.parametrize("model_type", ["llava_onevision", "qwen2_5_vl", "qwen3_vl"])
def test_budgets_are_met_or_said_to_be_missed(model_type: str, name: str, budget: str) -> None:
    llm, runs = tiny(model_type), []
    for share in (1.0, 0.9, 0.7, 0.4, 0.2):
        used = settings_used(llm, RunSettings.of(name, retention=share, budget=budget))
        video = encoded(model_type, used.merge_layer)
        method = llm.fitted(video, used, QUESTION)
        prefix = llm.prefill_for(video, method, QUESTION)
        text, patches = video.shape.text, video.layout.num_patches
        expected = {
            "kept": prefix.layer_tokens[-1] / patches,
            "layer_average": sum(prefix.layer_tokens) / LAYERS / patches,
            "kv_bytes": (sum(prefix.layer_tokens) / LAYERS + text) / (patches + text),
        }
        assert prefix.shares == pytest.approx(expected)
        missed = budget_missed(used, prefix.shares)
        assert bool(missed) == (prefix.shares[budget] > share + 1e-9)
        lowest = prefix.video_tokens == 1 or name == "framefusion" and method.cost < 1 / patches
        assert not missed or lowest, "missed only where it can't go lower"
        assert missed or share - prefix.shares[budget] < (0.06 if name == "framefusion" else 2 / patches)
        runs.append(prefix.shares[budget])
    assert runs == sorted(runs, reverse=True) and runs[0] == 1.0


def test_a_cost_is_looked_for_in_few_runs() -> None:
    llm, runs = tiny("llava_onevision"), []
    video = encoded("llava_onevision", 0)

    def shares_of(method: Method) -> dict:
        runs.append(method)
        return llm.prefill_for(video, method, QUESTION).shares

    found = FrameFusion(similarity=0.3).fit(video.shape, 0.15, "kept", shares_of)
    assert 1 < len(runs) <= TRIALS and found in [*runs]
    prefix = llm.prefill_for(video, FrameFusion(retention=0.15, similarity=0.3), QUESTION)
    assert prefix.shares["kept"] == pytest.approx(0.15, abs=2 / video.layout.num_patches)


@pytest.mark.parametrize("rule", ["reassigned", "merged"])
def test_other_positions_can_be_asked_for(rule: str) -> None:
    llm, video = tiny("llava_onevision"), encoded("llava_onevision", 2)
    own = llm.prefill_for(video, FastV(retention=0.3), QUESTION)
    prefix = llm.prefill_for(video, FastV(retention=0.3), QUESTION, position_rule=rule)
    assert prefix.plan.places.equal(own.plan.places)
    if rule == "merged":  # nothing was averaged
        assert prefix.logits.equal(own.logits)
    else:
        assert prefix.next_positions == prefix.cache.lengths and not prefix.logits.equal(own.logits)


def test_fastv_needs_a_layer_before_it() -> None:
    llm = tiny("llava_onevision")
    with pytest.raises(ValueError, match="its merge layer must be at least 1"):
        llm.prefill_for(encoded("llava_onevision", 0), FastV(), QUESTION)
    assert llm.prefill_for(encoded("llava_onevision", 1), FastV(), QUESTION).plan.num_tokens == 160


@every_family
def test_two_halves_are_a_layer(model_type: str) -> None:
    """Nothing of the model carries a hook afterwards."""
    llm, video = tiny(model_type), encoded(model_type, merge_layer(model_type, FastV))
    last, before = LAYERS - 1, hook_counts(llm.model)
    layer = llm.decoder.layers[last]

    def run() -> torch.Tensor:
        caches = DynamicCache()
        return run_layers(
            llm.decoder.layers, range(last, LAYERS), video.hidden, video.positions.embeddings, caches, "sdpa"
        )

    with torch.inference_mode():
        assert mlp(layer, up_to_mlp(layer, run)).equal(run())
    assert hook_counts(llm.model) == before


@pytest.mark.parametrize("index", range(LAYERS))
@every_family
def test_the_row_by_hand_is_that_of_the_whole_matrix(model_type: str, index: int) -> None:
    eager, asked = tiny(model_type, "eager"), prompt(model_type)
    layer, embeddings = eager.decoder.layers[index], eager.decoder.rotary_emb
    with torch.inference_mode():
        weights = naive_layers.attention_of(eager, index, asked.inputs, asked.positions)  # [heads, S, S]
        hidden = by_hand.before_layer(eager.model, layer, asked.inputs, asked.positions)[None]
        cache, rotated = DynamicCache(), embeddings(hidden, by_hand.numbered(asked.positions))
        run_layers(eager.decoder.layers, range(index, index + 1), hidden, rotated, cache, "eager")
        row = last_query_attention(layer, hidden[:, -1:], rotated, cache.layers[index].keys)
    assert (row - weights[:, -1].mean(dim=0)).abs().max() < 1e-6 and float(row.sum()) == pytest.approx(1)
