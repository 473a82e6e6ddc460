"""Addresses: what they restore, and what they ignore."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sttm_core.comparison import MergeSettings
from sttm_core.defaults import Defaults
from viz.tabs.link import Link

STUDIO = SimpleNamespace(
    samples={"a": None, "b": None}, max_frames=32, defaults=Defaults(0.95, 0.97), llm=SimpleNamespace(num_layers=6)
)
DEFAULT = MergeSettings(0.95, 0.97)


@pytest.mark.parametrize(
    "query, link",
    [
        ({}, Link("a", DEFAULT)),
        ({"sample": "b", "frames": "8", "frame": "3", "q": "What?"}, Link("b", DEFAULT, 8, 3, "What?")),
        ({"sample": "zzz", "frames": "0"}, Link("a", DEFAULT, 1)),
        ({"frames": "1000", "frame": "1000"}, Link("a", DEFAULT, 32, 31)),
        ({"frames": "-4", "frame": "x", "layer": "²"}, Link("a", DEFAULT)),
        ({"ts": "0.9", "tt": "0.8", "rules": "as_released"}, Link("a", MergeSettings(0.9, 0.8, rules="as_released"))),
        ({"layer": "99", "positions": "survived"}, Link("a", MergeSettings(0.95, 0.97, None, "paper", 5, "survived"))),
        ({"budget": "30"}, Link("a", MergeSettings(0.95, 0.97, 0.3))),
        ({"budget": "300"}, Link("a", DEFAULT)),
        ({"ts": "nan"}, Link("a", DEFAULT)),
        ({"ts": "abc", "rules": "mine", "positions": "odd"}, Link("a", DEFAULT)),
    ],
)
def test_links(query, link):
    assert Link.of(query, STUDIO) == link


def test_a_question_is_cut():
    assert len(Link.of({"q": "x" * 9999}, STUDIO).question) == 500
