"""Asking without a page: what streams into both cards, what the history keeps, what can be taken home."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from sttm_core.comparison import compare
from sttm_core.repeat import read_run
from sttm_core.video import VideoClip
from tests.viz.small_studio import BY_BUDGET, FRAMES, QUESTION, VALUES, small_studio, without_memory_for
from viz.files import Files
from viz.inspector import data
from viz.tabs.compare import Comparer, chart_of, history_updates, seen_of
from viz.tabs.controls import settings_from
from viz.tabs.downloads import VIDEO_FPS, Exporter
from viz.tabs.explore import Explorer
from viz.tabs.history import HISTORY

BUDGET = BY_BUDGET


@pytest.fixture
def studio(tmp_path):
    return small_studio(tmp_path)


def asked(studio, runs: int = 1, history=(), values=VALUES) -> list[tuple]:
    ref = studio.open_sample("blocks")
    return list(Comparer(studio).answers(ref, QUESTION, runs, 4, list(history), **values))


@pytest.mark.parametrize("runs", [1, 3])
def test_cards_fill_and_the_history_grows_by_one(studio, runs):
    earlier = asked(studio)[-1][2]
    steps = asked(studio, runs, history=earlier)
    assert "encoding 5 frames" in steps[0][0]
    timing = [re.search(r"timing run (\d) of 3", left) for left, *_ in steps]
    assert [int(found[1]) for found in timing if found] == ([1, 2, 3] if runs == 3 else [])
    left, right, history, view = steps[-1]
    assert ("median of 3" if runs == 3 else "1 run") in left and "engaged at layer 2" in right
    before, record = history
    assert [before] == earlier and record["baseline"]["runs"] == record["merged"]["runs"] == runs
    assert record["question"] == QUESTION and record["settings"]["merge_layer"] == 2
    measured = view.props["settings"]["curve"]
    assert measured["tokens"] == [record["tokens"]["kept"], record["tokens"]["all"]]
    assert measured["seconds"][1] == record["baseline"]["timings_s"]["prefill"]


@pytest.mark.parametrize("failing", [("baseline",), ("merged",), ("baseline", "merged")])
def test_without_memory_the_card_says_so(studio, tmp_path, monkeypatch, failing):
    without_memory_for(studio, monkeypatch, *failing)
    left, right, history, _ = asked(studio, 3)[-1]
    for name, card in (("baseline", left), ("merged", right)):
        assert ("did not suffice" in card) == (name in failing) and ("TTFT" in card) == (name not in failing)
    assert len(history) == (len(failing) < 2)  # nothing was answered, nothing is kept
    log, *_ = history_updates(Files(tmp_path / "made"), history)
    assert chart_of(history, False)[1].visible is False and log.visible == bool(history)


def test_the_chart_is_that_of_the_last_run(studio, tmp_path):
    first = asked(studio)[-1][2]
    history = asked(studio, history=first, values=BUDGET)[-1][2]
    chart, box = chart_of(history, True)
    seconds = [list(stage["x"]) for stage in json.loads(chart.value["plot"])["data"]]
    last = history[-1]
    stages = zip(last["baseline"]["timings_s"].values(), last["merged"]["timings_s"].values(), strict=True)
    assert box.visible and seconds == [list(pair) for pair in stages]
    assert chart_of([], False)[1].visible is False
    log, table, as_csv, as_json = history_updates(Files(tmp_path / "made"), history)
    assert log.visible and as_csv.interactive and as_json.interactive
    assert [row[0] for row in table.value["data"]] == [QUESTION] * 2 and len(table.value["data"][0]) == len(HISTORY)


def test_another_video_empties_the_cards_and_keeps_what_was_measured_on_it(studio):
    history = asked(studio)[-1][2]
    ref = studio.open_sample("blocks")
    for now, known in ((ref, True), (replace(ref, content_hash="other"), False)):
        left, right, view, box = Comparer(studio).another_video(now, history, **VALUES)
        assert "Ask a question" in left and "TTFT" not in right and box.visible is False
        assert (view.props["settings"]["curve"] is not None) == known


@pytest.mark.parametrize("values", [VALUES, BUDGET])
def test_a_run_of_the_page_can_be_repeated_from_its_file(studio, tmp_path, values):
    record = asked(studio, values=values)[-1][2][-1]
    (tmp_path / "runs.json").write_text(json.dumps([record]), encoding="utf-8")
    run = read_run(tmp_path / "runs.json")
    clip = run.open(studio.open_sample("blocks").path)
    run.check_model(studio.llm)
    again = compare(studio.llm, clip, run.question, run.settings, **run.limits)
    assert clip.frame_indices.tolist() == record["frames"]["indices"] and len(run.indices) == FRAMES
    assert (again.merged.text, again.baseline.text) == (record["merged"]["text"], record["baseline"]["text"])
    assert again.plan.num_tokens == record["tokens"]["kept"] and "the same answer" in run.differences(again)
    assert QUESTION in record["prompt"] and record["environment"]["model"] == studio.llm.name


def test_what_the_model_saw_stands_under_the_last_run_and_in_the_exported_page(studio, tmp_path):
    history = asked(studio)[-1][2]
    words, box = seen_of(history)
    assert box.visible and f"{FRAMES} of " in words.value and "sdpa attention" in words.value
    assert seen_of([])[1].visible is False
    ref = studio.open_sample("blocks")
    for runs, has_prompt in ((history, True), ([], False)):
        page = Path(Exporter(studio, Files(tmp_path / "made")).page(ref, runs, **VALUES)).read_text()
        seen = page.split("<h2>What the model saw</h2>")[1].split("</table>")[0]
        assert "sdpa attention" in seen and "Decoder" in seen and ("Prompt as rendered" in seen) == has_prompt


@pytest.mark.parametrize("values", [VALUES, BUDGET])
def test_what_is_taken_home_is_the_plan_that_is_seen(studio, tmp_path, values):
    exporter, ref = Exporter(studio, Files(tmp_path / "made")), studio.open_sample("blocks")
    found = json.loads(Path(exporter.data(ref, [], **values)).read_text())["plan"]
    assert found["retention"] <= (0.3 if values is BUDGET else 1)
    page = Path(exporter.page(ref, asked(studio)[-1][2], **values)).read_text()
    chosen = {"tauSpatial": found["tau_spatial"], "tauTemporal": found["tau_temporal"]}
    chosen |= {"rules": "paper", "method": "sttm"}
    payload = json.loads(re.search(r'id="payload">(.*?)</script>', page, re.DOTALL)[1])
    assert payload["settings"] == chosen and f"<td>{QUESTION}</td>" in page


def test_files_are_named_after_the_video_and_hold_every_step(studio, tmp_path):
    exporter, ref = Exporter(studio, Files(tmp_path / "made")), studio.open_sample("blocks")
    assert Path(exporter.page(ref, [], **VALUES)).name == "blocks-inspector.html"
    for name, stem in (("Mein Film: ä.mp4", "Mein-Film"), ("....mp4", "video"), ("äö.mp4", "video")):
        assert Path(exporter.data(replace(ref, name=name), [], **VALUES)).name == f"{stem}-plan.json"

    class Progress:
        def tqdm(self, pictures, total, desc):
            assert total == FRAMES
            return pictures

    film = VideoClip.open(exporter.film(ref, [], **VALUES, progress=Progress()), 64)
    assert (film.num_source_frames, film.name, round(film.fps)) == (FRAMES, "blocks-merged.mp4", VIDEO_FPS)


def test_only_what_shows_pictures_encodes_them(tmp_path, monkeypatch):
    """An upload's JPEGs take 0.3 s at 64 frames; thresholds and plans need none."""
    studio = small_studio(tmp_path)
    encoded, encode = [], data.encode_frames
    monkeypatch.setattr(data, "encode_frames", lambda *args: encoded.append(1) or encode(*args))
    ref, settings = studio.open(studio.samples["blocks"].path, FRAMES), settings_from(BUDGET)
    exporter, explorer = Exporter(studio, Files(tmp_path / "made")), Explorer(studio)
    exporter.data(ref, [], **BUDGET), exporter.figure(ref, [], **BUDGET), explorer.budget(ref, **BUDGET)
    assert encoded == []
    assert explorer.showing(ref, settings).payload["images"] and encoded == [1]  # once, though the budget comes first
    exporter.page(ref, [], **BUDGET)
    assert encoded == [1, 1]
