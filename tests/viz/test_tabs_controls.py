"""The left panel: what its values mean, and what choosing a published setting changes."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace

import gradio as gr
import pytest

from sttm_core.presets import presets_for
from sttm_core.settings import RunSettings
from tests.core.tiny import tiny
from tests.viz.small_studio import BY_BUDGET, VALUES
from viz.tabs import controls
from viz.tabs.arguments import arguments, check
from viz.tabs.controls import (
    BUDGET,
    NO_PRESET,
    THRESHOLDS,
    _finer_controls,
    preset_updates,
    settings_from,
)

LONG = SimpleNamespace(duration_s=1000.0)


def studio(name: str, layers: int = 28, max_frames: int = 64) -> SimpleNamespace:
    return SimpleNamespace(llm=SimpleNamespace(name=name, merge_layers=range(layers)), max_frames=max_frames)


@pytest.mark.parametrize(
    ("model", "name", "expected"),
    [
        ("LLaVA-Video-7B-Qwen2", "videomme-50", (0.85, 0.55, "as_released", "reassigned", 2, 64)),
        ("llava-onevision-qwen2-7b-ov-hf", "nextqa-30", (0.90, 0.60, "as_released", "reassigned", 2, 64)),
        ("Qwen2-VL-7B-Instruct", "vnbench-30", (0.75, 0.50, "as_released", "survived", 2, 64)),
        ("LLaVA-Video-72B-Qwen2", "videomme-30", (0.90, 0.90, "as_released", "reassigned", 0, 64)),
    ],
)
def test_a_preset_sets_everything_that_was_published(model: str, name: str, expected: tuple) -> None:
    mode, *rest = preset_updates(studio(model), LONG, name)
    assert mode.value == THRESHOLDS
    assert tuple(component.value for component in rest) == expected
    assert rest[0].minimum <= expected[0] and rest[1].minimum <= expected[1]


def test_frames_are_those_of_the_run_where_the_app_allows_them() -> None:
    page = studio("LLaVA-Video-7B-Qwen2", max_frames=500)
    for seconds, expected in ((1000, 180), (8, 8), (8.2, 9), (0.3, 1)):
        *_, frames = preset_updates(page, SimpleNamespace(duration_s=seconds), "vnbench-50")
        assert frames.value == expected


def test_fewer_frames_than_published_are_said(monkeypatch) -> None:
    said = []
    monkeypatch.setattr(controls.gr, "Warning", lambda sentence, title: said.append(sentence))
    for limit in (64, 128):
        preset_updates(studio("LLaVA-Video-7B-Qwen2", max_frames=limit), LONG, "videomme-50")
    assert said == ["videomme-50 takes 128 frames of this video, this page at most 64."]


def test_nothing_changes_without_a_preset() -> None:
    updates = preset_updates(None, None, NO_PRESET)
    assert all(update.get("__type__") == "update" and len(update) == 1 for update in updates)


def test_an_unknown_preset_is_refused_and_the_shipped_model_has_none() -> None:
    with pytest.raises(ValueError, match="there is no preset 'mmlu-50'"):
        preset_updates(studio("LLaVA-Video-7B-Qwen2"), LONG, "mmlu-50")
    assert presets_for("demo_model") == ()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {},
            RunSettings.of(tau_spatial=0.9, tau_temporal=0.8, merge_layer=2),
        ),
        (
            {
                "mode": BUDGET, "tau_spatial": 1, "tau_temporal": 0, "percent": 25, "prefer": "temporal",
                "rules": "as_released", "position_rule": "survived", "merge_layer": 0,
            },
            RunSettings.of(
                tau_spatial=1.0, tau_temporal=0.0, retention=0.25, rules="as_released", merge_layer=0,
                position_rule="survived", prefer="temporal",
            ),
        ),
        (
            {"method": "tome", "percent": 25, "rules": "as_released", "seed": 5},
            RunSettings.of("tome", retention=0.25, rules="as_released"),
        ),
        (
            {"method": "random", "percent": 10, "seed": 7.0, "position_rule": "merged"},
            RunSettings.of("random", retention=0.1, seed=7, position_rule="merged"),
        ),
        ({"method": "random", "seed": None}, RunSettings.of("random", retention=0.3)),
        ({"method": "framefusion", "similarity": 0.5}, RunSettings.of("framefusion", retention=0.3, similarity=0.5)),
    ],
)
def test_what_the_panel_says(values: dict, expected: RunSettings) -> None:
    assert settings_from(VALUES | values) == expected


def test_a_value_out_of_range_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="The budget must lie above 0% and at most 100%, got 0%."):
        settings_from(BY_BUDGET | {"percent": 0})


@pytest.mark.parametrize(("first", "layers"), [(0, 6), (2, 6), (3, 4)])
def test_only_layers_that_the_model_can_merge_at_are_offered(first: int, layers: int) -> None:
    """Qwen3-VL adds vision features after its first layers; the last of them may be the only one left."""
    llm = SimpleNamespace(
        name="tiny", merge_layers=range(first, layers), default_merge_layer=max(2, first),
        default_position_rule="survived",
    )
    with gr.Blocks():
        layer = _finer_controls(SimpleNamespace(llm=llm))[1]["merge_layer"]
    assert layer.minimum == first and layer.value == max(2, first)
    assert layer.maximum == layers - 1 or (layer.interactive is False and layers - first == 1)


@pytest.mark.parametrize("family", ["qwen3_vl", "llava_onevision"])
def test_the_offered_layers_are_those_that_the_model_takes(family: str) -> None:
    llm = tiny(family)
    taken = []
    for layer in range(-1, llm.num_layers + 1):
        with suppress(ValueError):
            llm.family.check_merge_layer(llm.model, layer)
            taken.append(layer)
    assert list(llm.merge_layers) == taken and (taken[0] > 0) == (family == "qwen3_vl")
    check(arguments(llm, 8), merge_layer=taken[0])
    with pytest.raises(ValueError, match=f"merge_layer must be a whole number from {taken[0]} to {taken[-1]}, got"):
        check(arguments(llm, 8), merge_layer=taken[0] - 1)
