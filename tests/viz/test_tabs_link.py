"""Addresses: what they restore, and what they ignore."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sttm_core.settings import RunSettings
from viz.tabs.link import Link

STUDIO = SimpleNamespace(
    samples={"a": None, "b": None}, max_frames=32,
    start=RunSettings.of(tau_spatial=0.95, tau_temporal=0.97, prefer="temporal"),
    llm=SimpleNamespace(merge_layers=range(1, 6)),
)  # fmt: skip
DEFAULT = STUDIO.start


def linked(**settings) -> Link:
    """The first sample with these settings."""
    return Link("a", DEFAULT.but(**settings))


@pytest.mark.parametrize(
    "query, link",
    [
        ({}, Link("a", DEFAULT)),
        ({"sample": "b", "frames": "8", "frame": "3", "q": "What?"}, Link("b", DEFAULT, 8, 3, "What?")),
        ({"sample": "zzz", "frames": "0"}, Link("a", DEFAULT, 1)),
        ({"frames": "1000", "frame": "1000"}, Link("a", DEFAULT, 32, 31)),
        ({"frames": "-4", "frame": "x", "layer": "²"}, Link("a", DEFAULT)),
        ({"ts": "0.9", "tt": "0.8"}, linked(tau_spatial=0.9, tau_temporal=0.8)),
        ({"rules": "as_released"}, linked(rules="as_released")),
        ({"layer": "99", "positions": "survived"}, linked(merge_layer=5, position_rule="survived")),
        ({"layer": "0"}, linked(merge_layer=1)),  # the model's first one
        ({"budget": "30"}, linked(retention=0.3)),
        ({"budget": "30", "prefer": "spatial"}, linked(retention=0.3, prefer="spatial")),
        ({"budget": "30", "prefer": "time"}, linked(retention=0.3)),
        ({"budget": "300"}, Link("a", DEFAULT)),
        ({"ts": "nan"}, Link("a", DEFAULT)),
        ({"ts": "abc", "rules": "mine", "positions": "odd"}, Link("a", DEFAULT)),
        ({"ts": "9", "tt": "0.8", "budget": "", "layer": "1"}, linked(tau_temporal=0.8, merge_layer=1)),
    ],
)
def test_links(query, link):
    assert Link.of(query, STUDIO) == link


def test_a_question_is_cut():
    assert len(Link.of({"q": "x" * 9999}, STUDIO).question) == 500
