"""Random-weight shapes: of the published size, finite, and every family's whole path runs on a tiny one."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForImageTextToText

from benchmarks.shapes import SHAPES, parts, random_model
from benchmarks.ttft import synthetic_clip
from sttm_core.methods.sttm.budget import thresholds_for_retention

TINY = [name for name in SHAPES if name.startswith("tiny")]
BILLIONS = {
    "llava-onevision-7b": 8.03,
    "llava-onevision-0.5b": 1.03,
    "qwen2-vl-7b": 8.29,
    "qwen2.5-vl-7b": 8.29,
    "qwen3-vl-8b": 8.77,
}


@pytest.mark.parametrize(("name", "billions"), BILLIONS.items())
def test_published_shapes_have_their_published_size(name: str, billions: float) -> None:
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(parts(name)[0])
    count = sum(weight.numel() for weight in model.parameters()) / 1e9
    assert count == pytest.approx(billions, abs=0.005)


def test_every_published_shape_has_a_tiny_one_of_its_family() -> None:
    assert {*TINY, *BILLIONS} == {*SHAPES}
    assert {SHAPES[name].family for name in TINY} == {SHAPES[name].family for name in BILLIONS}


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="There is no shape '8b'; there are llava-onevision-7b"):
        random_model("8b")


@pytest.mark.parametrize("name", TINY)
def test_random_weights_give_finite_tokens_that_can_be_merged(name: str) -> None:
    llm, shown = random_model(name, "cpu"), synthetic_clip(6, SHAPES[name].clip_size)
    encoded = llm.encode(shown)
    assert torch.isfinite(encoded.hidden).all() and encoded.hidden.std() > 1e-3
    assert encoded.layout.shape == llm.estimate(6, SHAPES[name].clip_size).grid
    found = thresholds_for_retention(encoded.tables, 0.5)
    assert 0.4 < found.retention <= 0.5
    prefix = llm.prefill(encoded, encoded.tables.plan(found.tau_spatial, found.tau_temporal))
    assert prefix.video_tokens < encoded.layout.num_patches
    assert torch.isfinite(llm.first_token_logits(prefix, "What is shown?")).all()


@pytest.mark.parametrize("name", TINY)
def test_weights_depend_on_the_seed_alone(name: str) -> None:
    first, again, other = (random_model(name, "cpu", seed).model.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(weight, again[key]) for key, weight in first.items())
    assert any(not torch.equal(weight, other[key]) for key, weight in first.items())
