"""Every method on the page, without a page: its plan for the browser, its card, its files, its link, its endpoints."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sttm_core.methods import METHODS
from sttm_core.settings import RunSettings
from tests.viz.small_studio import FRAMES, GRID, QUESTION, VALUES, small_studio
from viz.files import Files
from viz.plan_files import plan_dict
from viz.tabs.api import Endpoints
from viz.tabs.compare import Comparer
from viz.tabs.controls import NUMBERS, PANEL, panel_updates, settings_from, shown_for
from viz.tabs.downloads import Exporter
from viz.tabs.explore import Explorer
from viz.tabs.history import HISTORY, history_row
from viz.tabs.link import Link, written

OTHERS = [name for name in METHODS if name != "sttm"]
ON_TOKENS = [name for name in OTHERS if METHODS[name].acts_on == "tokens"]
PATCHES = FRAMES * GRID * GRID


@pytest.fixture
def studio(tmp_path):
    return small_studio(tmp_path)


def chosen(method: str, **more) -> dict:
    return VALUES | {"method": method} | more


def decoded(payload: dict, name: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(payload[name]), dtype="<i4")


def says(payload: dict, plan) -> bool:
    """Whether the browser gets exactly what became of every patch."""
    found = (decoded(payload, "memberOf").tolist(), decoded(payload, "places").tolist(), payload["grid"])
    return found == (plan.member_of.flatten().tolist(), plan.places.tolist(), [FRAMES, GRID, GRID])


def answered(studio, values: dict, history=()) -> tuple:
    """Cards, history and view at the end of a question."""
    return list(Comparer(studio).answers(studio.open_sample("blocks"), QUESTION, 1, 4, list(history), **values))[-1]


@pytest.mark.parametrize("method", ON_TOKENS)
def test_a_budget_sends_the_cores_plan(studio, method):
    ref = studio.open_sample("blocks")
    found, view = Explorer(studio).budget(ref, **chosen(method))
    _, plan = studio.planned(ref, RunSettings.of(method, retention=0.3))
    assert says(view.props["settings"]["plan"], plan)
    assert found["method"] == method and f"{plan.num_tokens} of {PATCHES} tokens kept" in found["words"]
    assert ("dropped" in found["words"]) == (plan.num_dropped > 0)


def test_a_budget_below_what_a_method_can_reach_is_said(studio):
    found, _ = Explorer(studio).budget(studio.open_sample("blocks"), **chosen("dycoke", percent=2))
    assert re.search(r"DyCoke can't go below \d+\.\d% on this video\.", found["words"])


@pytest.mark.parametrize("method", [name for name in OTHERS if name not in ON_TOKENS])
def test_a_method_inside_the_model_has_its_picture_once_it_ran(studio, method):
    ref = studio.open_sample("blocks")
    _, view = Explorer(studio).budget(ref, **chosen(method))
    assert METHODS[method].title in view.props["settings"]["plan"]["waiting"]
    with pytest.raises(ValueError, match="is known once a question was asked"):
        studio.planned(ref, settings_from(chosen(method)))
    shown = answered(studio, chosen(method))[-1].props["settings"]["plan"]
    _, plan = studio.planned(ref, settings_from(chosen(method)), QUESTION)
    assert says(shown, plan) and plan.retention <= 0.5


@pytest.mark.parametrize("method", OTHERS)
def test_the_right_card_is_the_methods_and_the_run_says_so(studio, method):
    left, right, history, _ = answered(studio, chosen(method))
    title = METHODS[method].title
    assert f'aria-label="{title}"' in right and "TTFT" in right and 'aria-label="All tokens"' in left
    record = history[-1]
    shares = record["merged"]
    assert f"{shares['kept']:.1%} kept" in right and f"{shares['layer_average']:.1%} layer average" in right
    assert record["settings"]["method"] == method
    assert dict(zip(HISTORY, history_row(record), strict=True))["method"] == title
    json.dumps(record, allow_nan=False)


def test_a_budget_missed_is_said_on_the_card(studio):
    right = answered(studio, chosen("dycoke", percent=2))[1]
    assert "The budget of 2.0% can&#x27;t be reached: DyCoke can&#x27;t go below" in right


@pytest.mark.parametrize("method", ["tome", "fastv"])
def test_files_hold_the_methods_plan(studio, tmp_path, method):
    exporter, ref, values = Exporter(studio, Files(tmp_path / "made")), studio.open_sample("blocks"), chosen(method)
    history = answered(studio, values)[2]
    _, plan = studio.planned(ref, settings_from(values), QUESTION)
    page = Path(exporter.page(ref, history, **values)).read_text()
    settings = json.loads(re.search(r'id="payload">(.*?)</script>', page, re.DOTALL)[1])["settings"]
    assert settings["method"] == method and says(settings["plan"], plan)
    found = json.loads(Path(exporter.data(ref, history, **values)).read_text())["plan"]
    assert (found["method"], found["tokens"]["kept"]) == (method, plan.num_tokens)
    assert Path(exporter.figure(ref, history, **values)).read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("keep", [False, True])
def test_another_video_comes_with_the_methods_plan(studio, keep):
    ref, values = studio.open_sample("blocks"), chosen("tome", mode="thresholds" if keep else "budget")
    _, (view, *_) = Explorer(studio).reopen(ref, FRAMES, **values, progress=lambda *a, **k: None)
    settings = view.props["settings"]
    assert settings["method"] == "tome" and says(settings["plan"], studio.plan(ref, settings_from(values)))
    assert settings.get("keep", False) == keep  # STTM's thresholds behind it stay where they are


@pytest.mark.parametrize(
    ("query", "settings"),
    [
        ({"method": "tome", "budget": "25"}, RunSettings.of("tome", retention=0.25)),
        ({"method": "tome", "budget": "25", "rules": "as_released", "ts": "0.5", "layer": "1"},
         RunSettings.of("tome", retention=0.25, rules="as_released")),
        ({"method": "random", "seed": "4"}, RunSettings.of("random", retention=0.3, seed=4)),
        ({"method": "random", "seed": "-4", "budget": "900"}, RunSettings.of("random", retention=0.3)),
        ({"method": "framefusion", "similarity": "0.4"}, RunSettings.of("framefusion", retention=0.3, similarity=0.4)),
    ],
)  # fmt: skip
def test_a_link_names_the_method(studio, query, settings):
    assert Link.of(query, studio).settings == settings
    assert Link.of({"method": "none"}, studio).settings == studio.start


def test_a_link_fills_the_panel(studio):
    query = {"method": "random", "budget": "20", "seed": "4"}
    _, shown = Explorer(studio).open_linked(None, SimpleNamespace(query_params=query))
    panel = dict(zip(PANEL, shown[-len(PANEL) :], strict=True))
    assert (panel["method"]["value"], panel["percent"]["value"], panel["seed"]["value"]) == ("random", 20, 4)
    assert panel["seed"]["visible"] and not panel["mode"]["visible"] and not panel["rules"]["visible"]
    assert shown[0].props["settings"]["plan"]["method"] == "random"


def test_the_panel_says_what_it_was_given(studio):
    for method in METHODS:
        values = chosen(method, mode="budget", percent=20, seed=3)
        updates = dict(zip(PANEL, panel_updates(settings_from(values), 2), strict=True))
        given = values | {name: update["value"] for name, update in updates.items() if "value" in update}
        assert settings_from(given) == settings_from(values)
        assert set(written(method, "budget")) <= set(values)
        assert {name for name in NUMBERS if shown_for(method, "budget")[name]} == set(NUMBERS) & set(
            METHODS[method].knobs()
        )


@pytest.mark.parametrize("method", ["tome", "random", "fastv"])
def test_endpoints_take_the_method_the_budget_and_knobs_by_name(studio, method):
    ends, knobs = Endpoints(studio), {"seed": 5} if method == "random" else {}
    common = {"sample": "blocks", "num_frames": FRAMES, "method": method, "question": QUESTION, "retention": 0.4}
    settings = RunSettings.of(method, retention=0.4, budget="layer_average", **knobs)
    given = common | {"knobs": knobs, "budget": "layer_average"}
    found = ends.plan(**given)
    _, plan = studio.planned(studio.open_sample("blocks"), settings, QUESTION)
    assert found == json.loads(json.dumps(plan_dict(plan))) and found["method"] == method
    assert says(ends.inspect(**given)["settings"]["plan"], plan)
    asked = ends.ask(**given)
    assert asked["merged"]["method"] == method and asked["tokens"]["kept"] == plan.num_tokens
    assert asked["settings"]["budget"] == "layer_average"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"method": "mine"}, "The argument method must be one of sttm, tome"),
        ({"method": "tome", "budget": "words"}, "The argument budget must be one of kept, layer_average, kv_bytes"),
        ({"method": "tome", "knobs": "seed"}, "The argument knobs must be an object of knobs by name"),
        ({"method": "tome", "knobs": {"seed": 1}}, "tome has no 'seed'; it has retention"),
        ({"method": "fastv"}, "What FastV leaves is known once a question was asked; ask one first."),
    ],
)
def test_what_an_endpoint_cannot_take_is_one_sentence(studio, given, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Endpoints(studio).plan(sample="blocks", num_frames=FRAMES, **given)
