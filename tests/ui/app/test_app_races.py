"""A person who is faster than the server: what they did last is what stays."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import expect

from tests.ui.app.visit import VIEW, alive, number, shows, stats
from viz.tabs import explore

# As soon as the inspector is there, the next frame; as soon as the page asks the server what its address means, a key.
EAGER = """
const view = () => window.sttmInspector?.get("main");
const wait = () => (view()?.video ? view().goTo(1) : requestAnimationFrame(wait));
wait();
const ask = window.fetch;
window.fetch = (...request) => {
  if (String(request[0]?.url ?? request[0]).includes("queue/join") && view()?.video && !window.asked) {
    window.asked = true;
    setTimeout(() => view().change({tauSpatial: 0.75}), 20);
  }
  return ask(...request);
};
"""


def test_what_is_done_before_the_server_has_read_the_address_stays(visit):
    page = visit(script=EAGER)
    page.wait_for_function("window.asked && window.sttmArrived")
    shows(page, tauSpatial=0.75, frame=1)
    page.wait_for_timeout(300)  # an answer would have changed the settings by now
    assert (stats(page)["tauSpatial"], stats(page)["frame"]) == (0.75, 1)
    expect(number(page, "tau-s")).to_have_value("0.75")


@pytest.fixture
def slow_budget(monkeypatch):
    """Finding thresholds takes half a second."""
    find = explore.budget_words
    monkeypatch.setattr(explore, "budget_words", lambda *args: time.sleep(0.5) or find(*args))


def test_the_last_of_two_budgets_counts(visit, slow_budget):
    page = alive(visit("frames=4&sample=code-short&budget=60"))
    shows(page, frames=4)
    for budget in ("50", "10"):
        number(page, "budget").fill(budget)
        number(page, "budget").press("Tab")
        page.wait_for_timeout(100)
    page.wait_for_function(f"Math.abs({VIEW}.stats().retention - 0.1) < 0.02")
    page.wait_for_timeout(700)
    assert stats(page)["retention"] == pytest.approx(0.1, abs=0.02)


def test_going_back_to_thresholds_while_a_budget_is_found(visit, slow_budget):
    page = alive(visit("frames=4&sample=code-short"))
    shows(page, frames=4)
    page.locator("#mode label", has_text="budget").click()
    page.locator("#mode label", has_text="thresholds").click()
    expect(number(page, "tau-s")).to_be_enabled()
    number(page, "tau-s").fill("0.75")
    page.wait_for_timeout(1500)  # the answer is there by now
    assert stats(page)["tauSpatial"] == 0.75
    expect(number(page, "tau-s")).to_have_value("0.75")


@pytest.fixture
def slow_encoding(monkeypatch):
    """Another number of frames takes a second."""
    again = explore.Explorer.showing
    monkeypatch.setattr(explore.Explorer, "showing", lambda *args, **options: time.sleep(1) or again(*args, **options))


def test_a_slider_moved_while_frames_are_encoded_stays(visit, slow_encoding):
    page = visit()
    number(page, "frames").fill("4")
    number(page, "frames").press("Tab")
    number(page, "tau-s").fill("0.75")
    shows(page, tauSpatial=0.75, frames=4)
    page.wait_for_timeout(300)
    assert stats(page)["tauSpatial"] == 0.75
    expect(number(page, "tau-s")).to_have_value("0.75")
    page.locator("#sample input").click()
    page.get_by_role("option", name="Circle, then star").click()
    page.wait_for_function(f"{VIEW}.video.title === 'Circle, then star'")
    page.wait_for_timeout(300)
    assert stats(page)["tauSpatial"] == 0.75, "another sample is merged by the thresholds in view"
