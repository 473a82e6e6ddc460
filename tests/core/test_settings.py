"""One record for every method: flat names in and out, another method, what is left open."""

from __future__ import annotations

import pytest

from sttm_core.methods import METHODS, Evs, Sttm
from sttm_core.settings import RunSettings, knobs_for


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "own", [{}, {"retention": 0.3, "budget": "layer_average", "merge_layer": 1, "position_rule": "survived"}]
)
def test_flat_names_give_the_record_back(name, own):
    settings = RunSettings.of(name, **own)
    assert RunSettings.of(**settings.as_dict()) == settings and hash(settings) == hash(RunSettings.of(name, **own))
    assert own.items() <= settings.as_dict().items() and settings.name == name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "magic"}, "there is no method 'magic'; there are sttm, "),
        ({"method": "tome", "tau_spatial": 0.5}, "tome has no 'tau_spatial'; it has "),
        ({"budget": "bytes"}, "kept, layer_average, kv_bytes, got 'bytes'"),
        ({"retention": 2}, "at most 100%, got 200%"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(given, said):
    with pytest.raises(ValueError) as caught:
        RunSettings.of(**given)
    assert said in str(caught.value) and str(caught.value).endswith(".")


def test_another_method_keeps_what_it_shares():
    sttm = RunSettings.of(tau_spatial=0.9, rules="as_released", retention=0.3, merge_layer=2)
    tome = sttm.but(method="tome")
    assert (tome.name, tome.method.rules, tome.retention, tome.merge_layer) == ("tome", "as_released", 0.3, 2)
    assert tome.but(method="random").as_dict().keys().isdisjoint({"rules", "tau_spatial"})
    assert sttm.but(tau_spatial=0.5).method == Sttm(0.5, rules="as_released")


@pytest.mark.parametrize(
    ("settings", "first", "expected"),
    [
        (RunSettings(), 0, (2, "reassigned")),
        (RunSettings(Evs()), 0, (0, "survived")),
        (RunSettings(Evs()), 3, (3, "survived")),
        (RunSettings(Evs(), merge_layer=5, position_rule="merged"), 3, (5, "merged")),
    ],
)
def test_the_method_decides_before_the_model(settings, first, expected):
    used = settings.resolved(2, "reassigned", first)
    assert (used.merge_layer, used.position_rule) == expected


def test_a_page_hands_over_the_values_of_all_its_controls():
    values = {"tau_spatial": 0.9, "rules": "paper", "seed": 3, "retention": 0.5, "elsewhere": 1}
    assert knobs_for("random", values) == {"seed": 3, "retention": 0.5}
    assert knobs_for("sttm", values) == {"tau_spatial": 0.9, "rules": "paper", "retention": 0.5}
