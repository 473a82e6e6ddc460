"""Looking at a sample: sliders, budget, keyboard, phone, dark, links."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.ui.app.visit import VIEW, alive, card, keep, number, shows, stats, toast


def test_alive_at_once_and_both_sliders_change_the_picture_without_a_request(visit, studio):
    page = visit()
    keep(page, "first-load")
    page.evaluate(f"{VIEW}.goTo(9)")
    page.wait_for_function(f"{VIEW}.video.images.large(9) !== null")
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    pictures, kept = [page.evaluate(f"{VIEW}.png()")], [stats(page)["tokens"]]
    for slider, value in (("tau-s", "0.75"), ("tau-t", "0.8")):
        number(page, slider).fill(value)
        page.wait_for_function(f"{VIEW}.settings().{'tauSpatial' if slider == 'tau-s' else 'tauTemporal'} === {value}")
        pictures.append(page.evaluate(f"{VIEW}.png()"))
        kept.append(stats(page)["tokens"])
    assert len(set(pictures)) == 3
    assert kept[0] > kept[1] > kept[2]
    expect(page.locator("[data-number=tokens]")).to_have_text(f"{kept[2]:,} / 3,136")
    assert [url for url in requests if not url.startswith("data:")] == []


def test_another_sample(visit):
    page = visit()
    page.locator("#sample input").click()
    page.get_by_role("option", name="Circle, then star").click()
    expect(page.locator("#suggestions")).to_contain_text("What color is the circle?")
    page.wait_for_function(f"{VIEW}.video.title === 'Circle, then star'")
    page.get_by_text("What color is the circle?").click()
    expect(page.locator("#question textarea")).to_have_value("What color is the circle?")


def test_budget(visit, studio):
    page = visit()
    page.locator("#mode label", has_text="budget").click()
    expect(number(page, "budget")).to_have_value("30")
    page.wait_for_function(f"Math.abs({VIEW}.stats().retention - 0.3) < 0.01")
    number(page, "budget").fill("10")
    number(page, "budget").press("Tab")
    page.wait_for_function(f"Math.abs({VIEW}.stats().retention - 0.1) < 0.01")
    expect(number(page, "tau-s")).to_be_disabled()
    found = stats(page)["tauSpatial"]
    page.locator("#prefer label", has_text="τ_S").click()
    page.wait_for_function(f"{VIEW}.settings().tauSpatial < {found} && Math.abs({VIEW}.stats().retention - 0.1) < 0.01")
    keep(page, "budget")
    page.wait_for_function("location.search.includes('budget=10&prefer=spatial')")
    alive(page).reload()
    alive(page)
    page.wait_for_function(f"Math.abs({VIEW}.stats().retention - 0.1) < 0.01")
    expect(number(page, "budget")).to_have_value("10")
    expect(page.get_by_role("radio", name="τ_S", exact=True)).to_be_checked()


def test_a_link_restores_the_view(visit, address):
    query = "sample=two-shapes&frames=4&ts=0.91&tt=0.88&rules=as_released&layer=1&positions=survived&frame=2&q=Where%3F"
    page = visit(query)
    shows(page, frames=4, tauSpatial=0.91, tauTemporal=0.88, rules="as_released", frame=2)
    expect(number(page, "frames")).to_have_value("4")
    expect(page.locator("#question textarea")).to_have_value("Where?")
    page.get_by_text("Rules, positions, layer, runs").click()
    expect(page.get_by_role("radio", name="survived")).to_be_checked()
    expect(page.get_by_role("radio", name="as_released")).to_be_checked()
    expect(number(page, "layer")).to_have_value("1")
    page.locator("#copy-link").click()  # no permission for the clipboard: the link is shown
    shown = page.locator("#link textarea, #link input").first
    expect(shown).to_have_value(f"{page.url}")
    for part in query.split("&"):
        assert part in page.url, f"{part} is missing in {page.url}"
    keep(page, "link")


def amid_the_needle(page) -> int:
    first, last = page.evaluate(f"{VIEW}.video.needles[0].frames")
    assert 0 < first <= last
    return (first + last) // 2


def test_a_link_with_nonsense_opens_the_first_sample(visit, studio):
    page = visit("sample=../../etc&frames=-3&ts=abc&layer=99&frame=1e9&rules=mine&q=Where%3F")
    expect(page.locator("#question textarea")).to_have_value("Where?")  # the rest of the link was followed
    shows(page, frames=16, rules="paper", frame=amid_the_needle(page))
    expect(toast(page)).to_have_count(0)
    page.get_by_text("Rules, positions, layer, runs").click()
    expect(number(page, "layer")).to_have_value(str(studio.llm.num_layers - 1))


def test_a_sample_opens_where_its_needle_is_seen(visit):
    page = visit()
    shows(page, frame=amid_the_needle(page))


def test_keyboard_alone(visit):
    page = visit()
    before = stats(page)
    page.locator(".stage").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("[")
    shows(page, frame=before["frame"] + 1)
    after = stats(page)
    assert after["tauSpatial"] < before["tauSpatial"]
    page.wait_for_function(
        "value => Math.abs(document.querySelector('#tau-s input[type=number]').valueAsNumber - value) < 1e-9",
        arg=after["tauSpatial"],
    )
    page.locator("#question textarea").focus()
    page.keyboard.type("What [code], please?")
    assert stats(page)["tauSpatial"] == after["tauSpatial"], "typing must not move a slider"
    page.keyboard.press("Tab")
    expect(page.locator("#ask")).to_be_focused()


@pytest.mark.parametrize("dark", [False, True])
def test_phone(visit, dark):
    page = visit("__theme=dark" if dark else "", width=390, height=844, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(f"{VIEW}.section.classList.contains('dark')") == dark
    keep(page, f"phone-{'dark' if dark else 'light'}", whole=True)
    expect(page.locator("#panel")).not_to_be_visible()
    page.locator("#sheet-toggle").tap()
    expect(page.locator("#tau-s")).to_be_visible()
    page.wait_for_timeout(200)  # the sheet slides in
    stage, sheet = page.locator(".stage").bounding_box(), page.locator("#panel").bounding_box()
    assert stage["y"] >= 0, "the picture is in view"
    assert stage["y"] + stage["height"] <= sheet["y"] + 1, "and the sheet does not cover it"
    keep(page, f"phone-sheet-{'dark' if dark else 'light'}")
    before = stats(page)["tokens"]
    slider = page.locator("#tau-s input[type=range]").bounding_box()
    page.touchscreen.tap(slider["x"] + 0.3 * slider["width"], slider["y"] + slider["height"] / 2)
    page.wait_for_function(f"{VIEW}.stats().tokens < {before}")
    page.locator("#sheet-toggle").tap()
    expect(page.locator("#panel")).not_to_be_visible()


def test_everything_that_counts_is_in_view_on_a_laptop(visit):
    page = visit()
    for what in (page.locator(".stage"), page.locator("#question"), card(page, "merged").locator("h3")):
        box = what.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 900
    header, buttons = page.locator("#title .chip").bounding_box(), page.locator("#export-html").bounding_box()
    assert header["x"] + header["width"] <= buttons["x"]


@pytest.mark.parametrize("width", [1440, 390])
def test_the_first_screen_says_what_is_seen_and_cuts_no_sentence(visit, studio, width):
    page = visit(width=width)
    expect(page.locator("#about-model")).to_have_text(studio.defaults.about)
    expect(page.locator("#seen")).to_contain_text("each bright box is one token")
    for line in ("#about-model", "#seen"):
        cut = "e => e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight + 1"
        whole = not page.locator(line).evaluate(cut)
        box = page.locator(line).bounding_box()
        assert whole and box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] <= 900
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    expect(page.locator("[data-field=perFrame]")).to_contain_text("(median; ")


def test_a_budget_says_what_it_found(visit):
    page = visit("frames=4&sample=code-short&budget=30")
    shows(page, frames=4)
    found = page.locator("#found")
    expect(found).to_contain_text("Found τ_S ")
    first = found.inner_text()
    number(page, "budget").fill("15")
    number(page, "budget").press("Tab")
    expect(found).not_to_have_text(first)
    now = stats(page)
    expect(found).to_contain_text(f"τ_S {now['tauSpatial']:.5f}"[:9])
    expect(found).to_contain_text(f"{now['retention']:.1%} kept")
    page.locator("#mode label", has_text="thresholds").click()
    expect(found).to_be_hidden()


def test_words_are_explained(visit):
    page = visit()
    page.locator(".glossary summary", has_text="τ_S").click()
    expect(page.get_by_text("Spatial threshold. A box of the quadtree stays one token")).to_be_visible()
    keep(page, "glossary")


def test_present(visit):
    page = visit()
    page.get_by_role("button", name="Present").click()
    size = page.locator("[data-number=tokens]").evaluate("element => parseFloat(getComputedStyle(element).fontSize)")
    assert size >= 28
    keep(page, "present")
