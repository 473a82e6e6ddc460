"""No serious or critical violation that axe finds, light and dark: every tab filled, the panel open, the inspector."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.ui.app.visit import ANSWERED_MS, VIEW, ask, keep, shows

QUESTION = "What code is shown?"
THEMES = pytest.mark.parametrize("theme", ["light", "dark"])

UNDIMMED = """() => {
    for (let part = document.querySelector("#needle-score strong"); part; part = part.parentElement)
        if (getComputedStyle(part).opacity !== "1") return false;
    return true;
}"""  # Gradio dims what is still being made


def violations(page: Page) -> str:
    """What axe calls serious or critical in what is shown now, a line each; empty if there is none."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return "\n".join(
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    )


def arrive(visit, theme: str) -> Page:
    page = visit(f"frames=4&sample=code-short&__theme={theme}")
    shows(page, frames=4)
    return page


@THEMES
def test_answers_and_the_panel_with_everything_open(visit, theme):
    page = arrive(visit, theme)
    for closed in ("more", "original"):
        page.locator(f"#{closed} > button").click()
    page.get_by_role("radio", name="Budget").check()
    expect(page.locator("#budget input[type=number]")).to_be_visible()
    for about in page.locator("#glossary summary").all():
        about.click()
    keep(page, f"panel-{theme}", whole=True)
    assert not violations(page)
    ask(page, QUESTION)
    page.locator("#ttft > button").click()
    expect(page.locator("#ttft-chart .js-plotly-plot")).to_be_visible()
    keep(page, f"answered-{theme}", whole=True)
    assert not violations(page)


@THEMES
def test_the_inspector_with_a_pinned_chain_and_every_overlay(visit, theme):
    page = arrive(visit, theme)
    for chip in page.locator("[data-overlay]").all():
        if chip.get_attribute("aria-pressed") != "true":
            chip.click()
    page.evaluate(f"{VIEW}.set({{tauSpatial: 0.9, tauTemporal: 0.7}})")
    page.locator('[data-ref="stage"]').focus()
    for key in ("Shift+ArrowRight", "Enter", "p"):
        page.keyboard.press(key)
    expect(page.locator('[data-ref="cards"]')).to_contain_text("Unpin")
    keep(page, f"pinned-{theme}")
    assert not violations(page)
    page.evaluate(f"{VIEW}.present(true)")
    keep(page, f"presenting-{theme}")
    assert not violations(page)


@THEMES
def test_the_sweep_and_the_needles(visit, theme):
    page = arrive(visit, theme)
    page.get_by_role("tab", name="Sweep").click()
    expect(page.locator("#draw-surface")).to_be_visible()
    assert not violations(page)
    page.locator("#draw-surface").click()
    for chart in ("surface", "per-frame"):
        expect(page.locator(f"#{chart} .js-plotly-plot")).to_be_visible(timeout=ANSWERED_MS)
    page.locator("#sweep-question textarea").fill(QUESTION)
    page.locator("#sweep-run").click()
    expect(page.locator("#ladder")).to_contain_text("5%", timeout=ANSWERED_MS)
    expect(page.locator("#sweep-run")).to_have_text("Sweep budgets", timeout=ANSWERED_MS)
    keep(page, f"sweep-{theme}", whole=True)
    assert not violations(page)
    page.get_by_role("tab", name="Needles").click()
    page.locator("#needle-run").click()
    expect(page.locator("#needle-score")).to_contain_text("right. Merged", timeout=ANSWERED_MS)
    page.get_by_role("button", name="Stop").last.click()
    page.wait_for_function(UNDIMMED)
    keep(page, f"needles-{theme}", whole=True)
    assert not violations(page)
