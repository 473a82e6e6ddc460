"""Charts carry the numbers they are given, and refuse the ones that cannot be."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from sttm_core import similarity_tables
from tests.viz.hand_plan import hand_plan
from viz.charts import retention_per_frame, retention_surface_chart, ttft_bars
from viz.labels import clock, duration
from viz.palette import DARK, LIGHT, STAGES

FULL = {"decode": 0.08, "vision": 0.41, "prefill": 0.80, "first_token": 0.07}
SHORT = {"decode": 0.08, "vision": 0.41, "merge": 0.012, "prefill": 0.21, "first_token": 0.03}


@pytest.mark.parametrize(("dark", "colors"), [(False, LIGHT), (True, DARK)])
def test_retention_per_frame_carries_the_plan(dark, colors):
    figure = retention_per_frame(hand_plan(), [0.0, 61.5], dark=dark)
    (bars,) = figure.data
    assert list(bars.y) == [7, 5] and list(bars.x) == [1, 2]
    assert list(bars.text) == ["43.8%", "31.2%"]
    assert list(bars.customdata) == ["frame 1, 0:00.0", "frame 2, 1:01.5"]
    assert figure.layout.title.text.startswith("37.5% kept: 12 of 32 tokens")
    assert list(figure.layout.xaxis.ticktext) == ["0:00.0", "1:01.5"]
    assert bars.marker.color == colors.accent
    look = figure.layout.template.layout
    assert look.paper_bgcolor == look.plot_bgcolor == "rgba(0,0,0,0)"
    assert look.font.family == "inherit" and look.font.color == colors.text


def test_ticks_are_few_enough_for_a_phone():
    plan = hand_plan()
    assert len(retention_per_frame(plan).layout.xaxis.tickvals) == 2
    many = similarity_tables(torch.ones(20, 2, 2, 3)).plan(0.5, 0.5)
    axis = retention_per_frame(many, np.arange(20.0)).layout.xaxis
    assert list(axis.tickvals) == [1, 5, 9, 13, 17] and axis.ticktext[1] == "0:04.0"
    with pytest.raises(ValueError, match="one time for each of the 2 frames, got 3"):
        retention_per_frame(plan, [0, 1, 2])


@pytest.mark.parametrize(("dark", "colors"), [(False, LIGHT), (True, DARK)])
def test_ttft_bars_stack_every_stage_on_one_scale(dark, colors):
    figure = ttft_bars(FULL, SHORT, dark=dark)
    assert [trace.name for trace in figure.data] == ["decode", "vision encoder", "merge", "prefill", "first token"]
    for index, (trace, stage) in enumerate(zip(figure.data, STAGES, strict=True)):
        assert list(trace.x) == [FULL.get(stage, 0.0), SHORT[stage]] and list(trace.y) == ["All tokens", "Merged"]
        assert list(trace.marker.color) == [colors.baseline_stages[index], colors.accent_stages[index]]
    assert figure.layout.barmode == "stack" and figure.layout.yaxis.autorange == "reversed"  # baseline on top
    assert (
        figure.layout.title.text.startswith("First token 1.83× faster")
        and "1.36 s → 742 ms" in figure.layout.title.text
    )
    assert figure.layout.xaxis.range[1] > 1.36
    totals = {note.y: note.x for note in figure.layout.annotations}
    assert totals == pytest.approx({"All tokens": 1.36, "Merged": 0.742})


@pytest.mark.parametrize(
    ("full", "short", "words"),
    [
        ({"prefill": 1.0}, {"prefill": 2.0}, "2.00× slower"),
        ({"prefill": 1.0}, {"prefill": 1.0}, "1.00× faster"),
        ({}, {}, "First token: 0 ms → 0 ms"),
    ],
)
def test_ttft_title_says_what_happened(full, short, words):
    assert words in ttft_bars(full, short).layout.title.text


def test_predicted_never_looks_measured():
    measured, predicted = ttft_bars(FULL, SHORT), ttft_bars(FULL, SHORT, predicted=True)
    assert "(predicted)" in predicted.layout.title.text and "(predicted)" not in measured.layout.title.text
    assert all(list(trace.marker.pattern.shape) == ["", "/"] for trace in predicted.data)
    assert all(list(trace.marker.pattern.shape) == ["", ""] for trace in measured.data)


@pytest.mark.parametrize(
    ("timings", "message"),
    [({"tokenise": 1.0}, "unknown stage 'tokenise'"), ({"merge": -1.0}, "merge"), ({"merge": math.nan}, "got nan")],
)
def test_impossible_timings_are_refused(timings, message):
    with pytest.raises(ValueError, match=message):
        ttft_bars(FULL, timings)


SURFACE = np.array([[0.1, 0.2, 0.4], [0.2, 0.5, 0.9]])


def test_surface_puts_tau_s_up_and_tau_t_right():
    figure = retention_surface_chart(SURFACE, [0.7, 0.9], [0.5, 0.6, 0.8], current=(0.9, 0.6), budget=0.3)
    heat, iso, now = figure.data
    assert np.array_equal(heat.z, SURFACE) and list(heat.y) == [0.7, 0.9] and list(heat.x) == [0.5, 0.6, 0.8]
    assert (heat.zmin, heat.zmax) == (0, 1)
    assert iso.contours.start == iso.contours.end == 0.3 and np.array_equal(iso.z, SURFACE)
    assert list(now.x) == [0.6] and list(now.y) == [0.9]
    assert len(retention_surface_chart(SURFACE, [0.7, 0.9], [0.5, 0.6, 0.8]).data) == 1
    assert len(retention_surface_chart(SURFACE, [0.7, 0.9], [0.5, 0.6, 0.8], budget=0.95).data) == 1  # never met


@pytest.mark.parametrize(
    ("surface", "taus_s", "budget", "message"),
    [
        (SURFACE.T, [0.7, 0.9], None, "surface must be 2 x 3"),
        (SURFACE * 2, [0.7, 0.9], None, "from 0 to 1"),
        (SURFACE * np.nan, [0.7, 0.9], None, "from 0 to 1"),
        (SURFACE, [0.9, 0.7], None, "must rise"),
        (SURFACE, [0.7, 0.9], 0.0, "budget"),
    ],
)
def test_impossible_surfaces_are_refused(surface, taus_s, budget, message):
    with pytest.raises(ValueError, match=message):
        retention_surface_chart(surface, taus_s, [0.5, 0.6, 0.8], budget=budget)


@pytest.mark.parametrize("dark", [False, True])
def test_charts_are_valid_json_for_a_browser(dark):
    for figure in (retention_per_frame(hand_plan(), dark=dark), ttft_bars(FULL, SHORT, dark=dark)):
        assert json.loads(figure.to_json())["layout"]["height"] > 100


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00.0"), (3.54, "0:03.5"), (59.96, "1:00.0"), (75.52, "1:15.5"), (3600, "60:00.0")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0008, "0.8 ms"),
        (0.00996, "10 ms"),
        (0.043, "43 ms"),
        (0.9996, "1.00 s"),
        (1.36, "1.36 s"),
        (120, "120 s"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
