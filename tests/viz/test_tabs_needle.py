"""Checking the needles: which answers count as right, and what the table says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.core.test_scoring import VERDICTS
from tests.viz.columns import answer, column
from tests.viz.small_studio import NEEDLE, VALUES, small_studio, without_memory_for
from viz.samples import Question
from viz.tabs.needle import TABLE, NeedleCheck


def test_answers_are_judged_as_everywhere():
    """One sample that asks for every truth, and a model that says what it is told to."""
    asked = [SimpleNamespace(text=said, answer=truth, needle=None) for said, truth, _ in VERDICTS]
    sample = SimpleNamespace(id="all", title="All", questions=asked)
    ask = lambda ref, text, *rest: iter([(column(None, answer(text)), column(10, answer(text)))])  # noqa: E731
    studio = SimpleNamespace(samples={"all": sample}, open_sample=lambda name: None, ask=ask)
    score, rows = check(studio)[-1]
    marks = [[cell.startswith("✓") for cell in row[3:5]] for row in rows]
    assert marks == [[right, right] for *_, right in VERDICTS]
    assert score.startswith(f"**All tokens: {sum(right for *_, right in VERDICTS)} of {len(VERDICTS)} right.")


@pytest.fixture
def studio(tmp_path):
    """The truth of the first question is what the model says from all tokens; the third has none."""
    small = small_studio(tmp_path)
    ref = small.open_sample("blocks")
    *_, (baseline, _) = small.ask(ref, "What?", small.start, 4)
    said = baseline.answer.text
    return small_studio(tmp_path, Question("What?", said, NEEDLE), Question("Who?", "nobody at all"), Question("Why?"))


def check(studio) -> list:
    found = NeedleCheck(studio).run(4, **VALUES, progress=lambda *a, **k: None)
    return [(score, list(rows)) for score, rows in found]


def test_every_question_with_a_truth_is_asked_and_counted(studio):
    seen = check(studio)
    assert [len(rows) for _, rows in seen] == [1, 2]
    score, rows = seen[-1]
    first, second = (dict(zip(TABLE, row, strict=True)) for row in rows)
    merged = first["merged"].startswith("✓")
    assert score == f"**All tokens: 1 of 2 right. Merged: {int(merged)} of 2 right.**"
    assert first["all tokens"].startswith("✓") and second["all tokens"].startswith("✗")
    assert (first["question"], second["question"], second["needle left"]) == ("What?", "Who?", "")
    left, of, all_ = first["needle left"].partition(" of ")
    assert of and 0 < int(left) < int(all_) == 3 * 4 * 4


def test_a_column_without_memory_is_wrong_and_says_why(studio, monkeypatch):
    without_memory_for(studio, monkeypatch, "baseline")
    score, rows = check(studio)[-1]
    assert score.startswith("**All tokens: 0 of 2 right.")
    said = dict(zip(TABLE, rows[0], strict=True))["all tokens"]
    assert said == "✗ The GPU's memory did not suffice; use fewer frames."
