"""Another method than STTM on the page: its picture, its answer, its link, its page from disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sttm_core.settings import RunSettings
from tests.ui.app.visit import VIEW, alive, ask, card, keep, stats
from tests.ui.inspected import GET

RECORDED = f"(method) => {VIEW}.settings().method === method && {VIEW}.planner.recorded && !{VIEW}.planner.waiting"


def choose(page: Page, title: str) -> None:
    page.locator("#method input").click()
    page.get_by_role("option", name=title).first.click()


def drawn(page: Page, method: str) -> dict:
    """The figures of the method's plan, once it is drawn."""
    page.wait_for_function(RECORDED, arg=method)
    return stats(page)


def says(found: dict, plan) -> None:
    """The browser counts what the core counts."""
    per_frame = plan.tokens_per_frame
    assert (found["tokens"], found["total"], found["dropped"]) == (plan.num_tokens, plan.num_patches, plan.num_dropped)
    assert (found["min"], found["max"]) == (int(per_frame.min()), int(per_frame.max()))
    assert found["merged"] == int((plan.patch_counts > 1).sum())


def test_tome_is_chosen_seen_asked_linked_and_taken_home(visit, studio, open_page, tmp_path):
    page = visit("sample=code-short&frames=8")
    page.wait_for_function("window.sttmArrived")
    before = page.evaluate(f"({VIEW}.flush(), {VIEW}.png())")
    choose(page, "ToMe")
    _, plan = studio.planned(studio.open_sample("code-short", 8), RunSettings.of("tome", retention=0.3))
    found = drawn(page, "tome")
    says(found, plan)
    assert page.evaluate(f"{VIEW}.png()") != before and 0 < found["retention"] <= 0.3
    expect(page.locator("#found")).to_contain_text(f"{plan.num_tokens:,} of {plan.num_patches:,} tokens kept")
    expect(page.locator("#tau-s")).to_be_hidden()
    ask(page, "What code is shown?")
    expect(card(page, "merged")).to_have_attribute("aria-label", "ToMe")
    expect(card(page, "merged")).to_contain_text("kept")
    expect(page.locator("#history")).to_contain_text("ToMe")
    assert "method=tome" in page.url and "budget=30" in page.url
    keep(page, "tome")
    with page.expect_download() as download:
        page.locator("#export-html").click()
    path = Path(tmp_path / "tome.html")
    download.value.save_as(path)
    home = open_page(path.as_uri())
    home.wait_for_timeout(300)
    taken = home.evaluate(f"({GET}.flush(), {{...{GET}.settings(), ...{GET}.stats()}})")
    says(taken, plan)
    assert taken["method"] == "tome" and home.evaluate(f"{GET}.refs.controls.hidden")
    alive(page.reload() and page)
    says(drawn(page, "tome"), plan)
    choose(page, "STTM")
    page.wait_for_function(f"{VIEW}.settings().method === 'sttm' && !{VIEW}.planner.recorded")
    expect(page.locator("#mode")).to_be_visible()


@pytest.mark.parametrize(("method", "seed"), [("random", "seed=3&"), ("evs", "")])
def test_dropped_patches_are_dropped_in_the_browser(visit, studio, method, seed):
    page = visit(f"method={method}&{seed}budget=20&sample=code-short&frames=8")
    knobs = {"seed": 3} if seed else {}
    _, plan = studio.planned(studio.open_sample("code-short", 8), RunSettings.of(method, retention=0.2, **knobs))
    says(drawn(page, method), plan)
    assert plan.num_dropped > 0
    frame, gone = [int(i) for i in (plan.member_of.flatten(1) < 0).nonzero()[0]]
    told = page.evaluate(f"([frame, patch]) => {VIEW}.describe(frame, patch)", [frame, gone])
    assert told["members"] == told["patches"] == 0
    expect(page.locator("#inspector")).to_contain_text("dropped")


def test_a_method_that_reads_the_question_says_what_it_waits_for(visit):
    page = visit("sample=code-short&frames=8")
    page.wait_for_function("window.sttmArrived")
    choose(page, "FastV")
    page.wait_for_function(f"{VIEW}.planner.waiting")
    expect(page.locator("#found")).to_contain_text("its picture comes with the answer")
    ask(page, "What code is shown?")
    found = drawn(page, "fastv")
    assert found["dropped"] > 0 and abs(found["retention"] - 0.3) < 0.01
