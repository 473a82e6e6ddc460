"""Asking: two answers with their times, again from the cache, changed ones marked, runs and pages to take home."""

from __future__ import annotations

import csv
import json
from xml.etree import ElementTree

import pytest
from playwright.sync_api import expect

from tests.ui.app.visit import ANSWERED_MS, VIEW, alive, ask, card, keep, number, shows, stats, toast

QUESTION = "What code is shown?"


@pytest.fixture
def four(visit):
    """A page with four frames of the first sample."""
    page = visit("frames=4&sample=code-short")
    shows(page, frames=4)
    return page


def test_ask_twice_and_take_the_runs_home(four, studio, tmp_path):
    page = four
    expect(page.locator("#stop")).to_be_disabled()
    ask(page, QUESTION)
    for column in ("baseline", "merged"):
        expect(card(page, column).locator(".ttft")).to_contain_text("TTFT")
        expect(card(page, column).locator(".ttft")).to_contain_text("median of 3")
    expect(card(page, "merged").locator(".engaged")).to_contain_text(
        f"engaged at layer {studio.llm.default_merge_layer}: "
    )
    expect(card(page, "merged").locator(".badge")).to_be_visible()
    prefill = page.locator("[data-number=prefill]")
    assert "*" not in prefill.inner_text(), "measured at these very thresholds"
    number(page, "tau-s").fill("0.8")
    expect(prefill).to_contain_text("*")
    keep(page, "answered", whole=True)

    ask(page, "What is the background?")
    expect(card(page, "baseline")).to_contain_text("this question from the cached prefix")
    expect(page.locator("#history")).to_contain_text("What is the background?")
    with page.expect_download() as download:
        page.locator("#history-csv").click()
    with open(download.value.path(), newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [row["question"] for row in rows] == ["What is the background?", QUESTION]
    assert rows[0]["TTFT merged"].endswith("s")
    with page.expect_download() as download:
        page.locator("#history-json").click()
    runs = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert [run["question"] for run in runs] == [QUESTION, "What is the background?"]
    assert runs[1]["tokens"]["kept"] == stats(page)["tokens"] < runs[1]["tokens"]["all"] == 784
    assert runs[0]["merged"]["ttft_s"] == pytest.approx(sum(runs[0]["merged"]["timings_s"].values()))


def test_a_changed_answer_is_marked(visit):
    """Everything merged to almost nothing: what the model then says is not what it read from all tokens."""
    page = visit("frames=8&sample=code-short&ts=-1&tt=0.001")
    shows(page, frames=8, tauSpatial=-1)
    assert stats(page)["tokens"] < 30
    ask(page, QUESTION)
    expect(card(page, "merged").locator(".badge.changed")).to_have_text("▲ changed")
    expect(card(page, "merged").locator("mark")).to_be_visible()
    expect(card(page, "baseline").locator(".badge")).to_have_count(0)
    expect(page.locator("#history")).to_contain_text("changed")
    keep(page, "changed", whole=True)


def test_an_empty_question_is_one_sentence(four):
    four.locator("#ask").click()
    expect(toast(four)).to_contain_text("The question is empty")
    expect(four.locator("#ask")).to_be_enabled()
    keep(four, "empty-question")


def test_stop(visit):
    page = visit("frames=12&sample=two-shapes")
    shows(page, frames=12)
    page.locator("#question textarea").fill("What color is the circle?")
    page.locator("#question textarea").press("Enter")
    expect(page.locator("#stop")).to_be_enabled()
    keep(page, "asking")
    page.locator("#stop").click()
    expect(page.locator("#ask")).to_have_text("Ask")
    expect(card(page, "merged")).to_contain_text("stopped")


def test_an_exported_page_lives_without_the_server(four, open_page, tmp_path):
    with four.expect_download(timeout=ANSWERED_MS) as download:
        four.locator("#export-html").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == "code-short-inspector.html"
    page = open_page(path.as_uri())
    before = four.evaluate(f"{VIEW}.stats().tokens")
    view = 'window.sttmInspector.get("inspector")'
    assert page.evaluate(f"{view}.stats().tokens") == before
    page.locator("input[data-ref=tauSpatial]").fill("0.75")
    assert page.evaluate(f"{view}.stats().tokens") < before


@pytest.mark.parametrize(("kind", "begins"), [("pdf", b"%PDF"), ("json", b'{"plan"'), ("mp4", b"\0\0\0")])
def test_files_to_take_away(four, tmp_path, kind, begins):
    with four.expect_download(timeout=ANSWERED_MS) as download:
        four.locator(f"#export-{kind}").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.suffix == f".{kind}" and path.name.startswith("code-short")
    assert path.read_bytes().startswith(begins)
    if kind == "json":
        assert json.loads(path.read_text())["plan"]["tokens"]["kept"] == four.evaluate(f"{VIEW}.stats().tokens")


def test_sweep(four):
    ask(four, QUESTION)
    four.get_by_role("tab", name="Sweep").click()
    expect(four.locator("#sweep-question textarea")).to_have_value(QUESTION)
    four.locator("#sweep-run").click()
    expect(four.locator("#ladder")).to_contain_text("5%", timeout=ANSWERED_MS)
    four.locator("#draw-surface").click()
    expect(four.locator("#surface .js-plotly-plot")).to_be_visible(timeout=ANSWERED_MS)
    keep(four, "sweep", whole=True)
    with four.expect_download() as download:
        four.locator("#surface-svg").click()
    assert download.value.suggested_filename == "retention-surface.svg"
    picture = ElementTree.parse(download.value.path()).getroot()
    assert picture.tag.endswith("svg") and len(picture) >= 2


def test_needles(visit, studio):
    page = visit()
    page.get_by_role("tab", name="Needles").click()
    page.locator("#needle-run").click()
    known = sum(q.answer is not None for s in studio.samples.values() for q in s.questions)
    expect(page.locator("#needle-score")).to_contain_text(f"of {known} right. Merged", timeout=2 * ANSWERED_MS)
    keep(page, "needles", whole=True)


def test_reload_after_an_answer(four):
    ask(four, QUESTION)
    four.reload()
    alive(four)
    shows(four, frames=4)
    expect(four.locator("#question textarea")).to_have_value(QUESTION)
    ask(four, QUESTION)
    expect(card(four, "merged").locator(".engaged")).to_be_visible()
