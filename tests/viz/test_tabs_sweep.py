"""The ladder of budgets and what is left of a needle, without a page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sttm_core.timing import Timings
from tests.viz.hand_plan import hand_plan
from tests.viz.small_studio import BY_BUDGET, FRAMES, GRID, QUESTION, VALUES, small_studio
from viz.tabs.sweep import BUDGETS, LADDER, Sweeper, surface_axes, tokens_in_box


@pytest.mark.parametrize(
    ("frames", "box", "patches", "tokens"),
    [
        ((0, 0), (0, 0, 2, 2), 4, 1),
        ((0, 1), (0, 0, 2, 2), 8, 1),  # a chain is one token in both frames
        ((0, 1), (0, 2, 2, 4), 8, 2),
        ((1, 1), (2, 2, 4, 4), 4, 4),
        ((0, 1), (2, 2, 4, 4), 8, 7),
        ((0, 0), (1, 1, 3, 3), 4, 4),
        ((0, 1), (0, 0, 4, 4), 32, 12),
    ],
)
def test_tokens_that_hold_a_patch_of_a_box(frames, box, patches, tokens):
    needle = {"frames": frames, "box": box}
    assert (tokens_in_box(needle, None), tokens_in_box(needle, hand_plan())) == (patches, tokens)


def test_the_ladder_asks_at_every_budget_and_compares_with_all_tokens(tmp_path, monkeypatch):
    studio, answer = small_studio(tmp_path), None

    def timed(prefix, question, **limits):
        text = "all" if prefix.video_tokens > FRAMES * GRID * GRID / 4 else "less"
        spent = Timings(vision=9.0, merge=0.1, prefill=2 * prefix.video_tokens / (FRAMES * GRID * GRID) - 0.1)
        return replace(answer, text=text, timings=spent)

    answer = studio.llm.answer(studio.llm.prefill(studio.encoded(studio.open_sample("blocks"), studio.start)), QUESTION)
    monkeypatch.setattr(studio.llm, "answer", timed)
    ref = studio.open_sample("blocks")
    *_, rows = Sweeper(studio).ladder(ref, QUESTION, 4, **VALUES, progress=lambda *a, **k: None)
    table = [dict(zip(LADDER, row, strict=True)) for row in rows]
    assert [row["budget"] for row in table] == ["all", *(f"{budget:.0%}" for budget in BUDGETS[1:])]
    assert (table[0]["kept"], table[0]["tokens"], table[0]["× faster"]) == ("100.0%", FRAMES * GRID * GRID, "1.00")
    for row, budget in zip(table, BUDGETS, strict=True):
        assert row["tokens"] <= max(budget, 0.16) * FRAMES * GRID * GRID  # this video's floor lies below 16%
        share = row["tokens"] / (FRAMES * GRID * GRID)
        assert row["kept"] == f"{share:.1%}"
        assert row["× faster"] == f"{1 / share:.2f}"  # of the language model alone: vision is the same
        assert row["same"] == ("yes" if row["answer"] == "all" else "changed")
    assert {row["same"] for row in table} == {"yes", "changed"} and table[1]["tokens"] <= FRAMES * GRID * GRID / 2
    needles = [int(row["needle tokens"]) for row in table]
    assert needles[0] == 3 * 4 * 4 > needles[-1] > 0


def test_the_charts_show_the_present_settings(tmp_path):
    studio = small_studio(tmp_path)
    ref, budget = studio.open_sample("blocks"), BY_BUDGET
    for values, wanted in ((VALUES, None), (budget, 0.3)):
        shown, surface, frames = Sweeper(studio).charts(ref, False, **values)
        heat, *curves, now = surface.data
        assert shown.visible and sum(frames.data[0].y) <= (wanted or 1) * FRAMES * GRID * GRID
        assert wanted is None or [curve.contours.start for curve in curves] == [0.3]
        assert heat.z.shape == (len(heat.y), len(heat.x)) and heat.z[-1, -1] == 1
        if wanted is None:
            assert (list(now.y), list(now.x)) == ([0.9], [0.8])
    taus_s, taus_t = surface_axes(studio.encoded(ref, studio.start), studio.start)
    assert taus_s[-1] <= 1 and taus_t[-1] <= 1 and taus_s[0] <= 0.9 and taus_t[0] <= 0.8


def test_an_empty_question_is_refused_before_the_model_runs(tmp_path):
    studio = small_studio(tmp_path)
    with pytest.raises(ValueError, match="question is empty"):
        next(Sweeper(studio).ladder(studio.open_sample("blocks"), "  ", 4, **VALUES))
    assert len(studio.store) == 0
