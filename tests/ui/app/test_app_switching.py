"""Another video is chosen while something runs: what belongs to the old one never stands under the new one."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Page, expect

from tests.ui.app.visit import ANSWERED_MS, VIEW, ask, card, keep, number, shows, upload

FIRST, SECOND = "frames=4&sample=code-short", "Circle, then star"
QUESTION = "What code is shown?"


@pytest.fixture
def slow_model(monkeypatch, studio):
    """Every answer takes a second more, so that there is time to choose another video."""
    answering = studio.llm.answering

    def slowly(*args, **options):
        time.sleep(1)
        yield from answering(*args, **options)

    monkeypatch.setattr(studio.llm, "answering", slowly)


@pytest.fixture(params=["cancelled", "the cancelling is lost"])
def page(request, visit) -> Page:
    page = visit(FIRST)
    shows(page, frames=4)
    if request.param != "cancelled":
        page.route("**/cancel", lambda route: route.abort())
    return page


def choose(page: Page, title: str = SECOND) -> None:
    page.locator("#sample input").click()
    page.get_by_role("option", name=title).click()
    page.wait_for_function(f"title => {VIEW}.video.title === title", arg=title)


def nothing_of_the_old_video(page: Page) -> None:
    """Long enough for everything that was still to come."""
    for _ in range(8):
        page.wait_for_timeout(500)
        for column in ("baseline", "merged"):
            assert card(page, column).locator(".ttft, .truth, .working").count() == 0
        assert "Ask a question" in card(page, "baseline").inner_text()
        assert page.locator("#history").is_hidden() and page.locator("#ttft").is_hidden()
        assert page.locator("[data-number=prefill]").is_hidden()
    assert page.evaluate(f"{VIEW}.video.curve ?? null") is None


def test_a_question_ends_with_its_video(page, slow_model, studio):
    page.locator("#question textarea").fill(QUESTION)
    page.locator("#ask").click()
    expect(card(page, "baseline")).to_contain_text("reading all tokens")
    choose(page)
    nothing_of_the_old_video(page)
    keep(page, "switched-during-ask")
    expect(page.locator("#ask")).to_have_text("Ask")
    expect(page.locator("#stop")).to_be_disabled()
    question = next(q for q in studio.samples["two-shapes"].questions if q.answer)
    ask(page, question.text)
    expect(card(page, "baseline").locator(".truth")).to_contain_text(question.answer)
    expect(page.locator("#history")).to_contain_text(question.text)
    expect(page.locator("#history")).not_to_contain_text(QUESTION)


@pytest.mark.parametrize("slider", ["frames", "layer"])
def test_a_question_ends_with_its_frames_and_its_layer(visit, slow_model, slider):
    page = visit(FIRST)
    shows(page, frames=4)
    page.locator("#question textarea").fill(QUESTION)
    page.locator("#ask").click()
    expect(card(page, "baseline")).to_contain_text("reading all tokens")
    if slider == "layer":
        page.get_by_text("Rules, positions, layer, runs").click()
    number(page, slider).fill("3")
    number(page, slider).press("Tab")
    expect(card(page, "baseline")).to_contain_text("Ask a question")
    nothing_of_the_old_video(page)


def test_a_sweep_ends_with_its_video(page, slow_model):
    page.get_by_role("tab", name="Sweep").click()
    page.locator("#sweep-question textarea").fill(QUESTION)
    page.locator("#sweep-run").click()
    expect(page.locator("#ladder")).to_contain_text("100.0%", timeout=ANSWERED_MS)
    choose(page)
    for _ in range(8):
        page.wait_for_timeout(500)
        assert "%" not in page.locator("#ladder").inner_text()
    keep(page, "switched-during-sweep")
    expect(page.locator("#sweep-run")).to_have_text("Sweep budgets")
    page.locator("#sweep-run").click()
    expect(page.locator("#ladder")).to_contain_text("100.0%", timeout=ANSWERED_MS)


def test_charts_are_those_of_the_video_in_view(visit):
    page = visit(FIRST)
    shows(page, frames=4)
    page.get_by_role("tab", name="Sweep").click()
    page.locator("#draw-surface").click()
    expect(page.locator("#surface .js-plotly-plot")).to_be_visible(timeout=ANSWERED_MS)
    choose(page)
    expect(page.locator("#surface .js-plotly-plot")).to_be_hidden()


def test_the_needle_check_is_about_all_clips_and_goes_on(visit, studio):
    page = visit(FIRST)
    shows(page, frames=4)
    known = sum(q.answer is not None for s in studio.samples.values() for q in s.questions)
    page.get_by_role("tab", name="Needles").click()
    page.locator("#needle-run").click()
    expect(page.locator("#needle-score")).to_contain_text(re.compile(r"of \d+ right\. Merged"), timeout=ANSWERED_MS)
    choose(page)
    expect(page.locator("#needle-score")).to_contain_text(f"of {known} right. Merged", timeout=2 * ANSWERED_MS)
    for sample in studio.samples.values():
        expect(page.locator("#needles")).to_contain_text(sample.title)
    expect(page.locator("#needle-run")).to_have_text("Check the needles")
    page.get_by_role("tab", name="Explore and compare").click()
    expect(card(page, "baseline")).to_contain_text("Ask a question")


def test_a_slow_opening_does_not_replace_what_was_chosen_after_it(visit, studio, monkeypatch):
    page, opened = visit(FIRST), studio.open
    shows(page, frames=4)
    monkeypatch.setattr(studio, "open", lambda *args, **options: time.sleep(2) or opened(*args, **options))
    upload(page, studio.samples["code-short"].path)
    page.wait_for_timeout(700)
    choose(page)
    page.wait_for_timeout(3000)
    assert page.evaluate(f"{VIEW}.video.title") == SECOND
    expect(page.locator("#about")).not_to_contain_text("code-short.mp4")
