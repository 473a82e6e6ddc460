"""When an answer is right, and that page, needle check and benchmark agree about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sttm_core.scoring import is_right

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ("benchmarks/results/needle-temporal.json", "benchmarks/results/needle-thresholds.json")
PUBLISHED += ("demo_model/results/held-out.json",)
ALIKE = [
    ("red", "red"),
    ("  red\n", "red"),
    ("Red.", "red"),
    ("red", "Red."),
    ('"Red"!', "red"),
    ("**red**", "red"),
    ("(B).", "B"),
    ("“top  right”.", "top right"),
    ("K7P2.", "K7P2"),
    ("EXIT", "EXIT"),
    ("3", "3"),
    (" ?", "?"),
    ("cafe\u0301", "caf\u00e9"),
    ("STRASSE", "Straße"),
    ("Heart, square, triangle", "heart, square, triangle"),
]
DIFFERENT = [
    ("k7p2", "K7P2"),
    ("Exit", "EXIT"),
    ("b", "B"),
    ("a red circle", "red"),
    ("red", "red circle"),
    ("heart square, triangle", "heart, square, triangle"),
    ("square, heart", "heart, square"),
    ("-3", "3"),
    (".5", "5"),
    ("12", "1"),
    ("50%", "50"),
    ("K7 P2", "K7P2"),
    ("", "red"),
    (".", "red"),
    ("!", "?"),
]


VERDICTS = [(*pair, True) for pair in ALIKE] + [(*pair, False) for pair in DIFFERENT]


@pytest.mark.parametrize(("answer", "truth", "right"), VERDICTS)
def test_what_counts_and_what_does_not(answer: str, truth: str, right: bool) -> None:
    assert is_right(answer, truth) is right


@pytest.mark.parametrize("file", PUBLISHED)
def test_no_published_answer_changes_sides(file: str) -> None:
    """Whether counted by ``==``, as at first, or by this: what is equal is right, and the rest is wrong here too."""
    wrong = json.loads((ROOT / file).read_text(encoding="utf-8"))["wrong"]
    assert wrong and not [row for row in wrong if is_right(row["answered"], row["answer"])]
