"""What a person does with the inspector, in the exported page opened from disk."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import expect

from sttm_core import similarity_tables
from tests.ui.inspected import GET, inspector_data, patch_features, scene, state, tables_of, until, write_page
from viz.inspector import InspectorData, export_html

FRAMES = 16
NEEDLE = {"label": "caption", "frames": [6, 8], "box": [10, 6, 14, 12]}
CURVE = {"tokens": [200, 1000, 4000], "seconds": [0.1, 0.3, 1.5]}


@pytest.fixture(scope="module")
def data() -> InspectorData:
    return inspector_data(scene(FRAMES), title="A <b>clip</b>", needles=[NEEDLE], curve=CURVE)


@pytest.fixture
def page(open_page, tmp_path, data):
    return open_page(write_page(tmp_path, data))


def plan_of(data: InspectorData, page):
    now = state(page)
    return data.tables.plan(now["tauSpatial"], now["tauTemporal"], now["rules"])


def patch_centre(page, y: float, x: float) -> tuple[float, float]:
    """Page coordinates of the middle of a patch of the 14x14 grid on the stage."""
    box = page.locator(".stage").bounding_box()
    return box["x"] + (x + 0.5) / 14 * box["width"], box["y"] + (y + 0.5) / 14 * box["height"]


def longest_chain(plan) -> tuple[int, int, int, int]:
    """Frame, row and column where the chain with most members begins, and its token."""
    token = int(plan.member_counts.argmax())
    t, y, x = plan.boxes[token, :3].tolist()
    return t, y, x, token


def test_numbers_are_the_plan_s(page, data):
    plan = plan_of(data, page)
    shown = page.locator(".numbers").inner_text()
    assert f"{100 * plan.retention:.1f}%" in shown
    assert f"{plan.num_tokens:,} / {plan.num_patches:,}" in shown
    assert f"longest {plan.longest_chain} frames" in shown
    seconds = np.interp(plan.num_tokens, CURVE["tokens"], CURVE["seconds"])
    assert f"{1000 * seconds:.0f} ms*" in shown
    assert page.locator(".footnote").is_visible(), "a prediction must be marked as one"
    assert page.locator("h1").inner_text() == "A <b>clip</b>"


def test_a_drag_replans_without_any_request(page, data, keep_picture):
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    slider = page.locator("input[data-ref=tauSpatial]")
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    kept = set()
    page.mouse.move(box["x"] + 5, middle)
    page.mouse.down()
    for share in np.linspace(0.05, 0.95, 12):
        page.mouse.move(box["x"] + share * box["width"], middle)
        kept.add(page.locator("[data-number=tokens]").inner_text())
    page.mouse.up()
    assert len(kept) >= 4
    assert state(page)["tokens"] == plan_of(data, page).num_tokens
    assert [url for url in requests if not url.startswith("data:")] == []
    keep_picture(page, "light")


def test_pin_a_chain_and_follow_it(page, data):
    t, y, x, token = longest_chain(plan := plan_of(data, page))
    page.evaluate(f"{GET}.goTo({t})")
    page.mouse.click(*patch_centre(page, y, x))
    card = page.locator('[data-card="current"]')
    frames = int(plan.frame_spans[token])
    expect(card).to_contain_text(f"Chain of {frames} frames")  # drawn with the next picture
    assert f"{len(plan.members(token))} members" in card.inner_text()
    card.get_by_role("button", name="Pin").click()
    page.keyboard.press("Escape")
    page.mouse.move(5, 5)
    pinned = page.locator('[data-card="pinned"]')
    assert pinned.is_visible()
    lanes = pinned.locator(".lanes canvas").bounding_box()
    page.mouse.click(lanes["x"] + lanes["width"] - 4, lanes["y"] + lanes["height"] - 4)  # last column, below the boxes
    assert state(page)["frame"] == min(FRAMES - 1, t + frames)


def test_the_named_thresholds_are_where_it_changes(page, data):
    """A chain breaks, and a box splits, just above the thresholds on its card, and not at them."""
    t, y, x, token = longest_chain(plan := plan_of(data, page))
    facts = page.evaluate(f"{GET}.describe({t}, {y * 14 + x})")
    page.evaluate(f"({GET}.goTo({t}), {GET}.pick({y * 14 + x}), {GET}.flush())")
    assert f"Would break at τT > {facts['breaks']:.3f}" in page.locator('[data-card="current"]').inner_text()

    def above(value: float) -> float:
        return float(np.nextafter(np.float32(value), np.float32(2)))

    def members(tau_temporal: float) -> int:
        other = data.tables.plan(plan.tau_spatial, tau_temporal)
        return int(other.member_counts[other.member_of[t, y, x]])

    assert members(facts["breaks"]) == len(plan.members(token)) == facts["members"]
    assert members(above(facts["breaks"])) < facts["members"]

    # a 2x2 box inside a 4x4 cell
    box = next([t, y, x, y1, x1] for t, y, x, y1, x1 in plan.node_boxes.tolist() if y1 - y == x1 - x == 2 and x * y > 0)
    facts = page.evaluate(f"{GET}.describe({box[0]}, {box[1] * 14 + box[2]})")

    def is_kept(tau_spatial: float) -> bool:
        return box in data.tables.plan(tau_spatial, plan.tau_temporal).node_boxes.tolist()

    assert facts["box"] == box[1:]
    assert [is_kept(tau) for tau in (facts["splits"], above(facts["splits"]))] == [True, False]
    assert [is_kept(tau) for tau in (facts["absorbed"], above(facts["absorbed"]))] == [False, True]


def test_probe_by_dragging_and_by_the_needle(page, data):
    page.mouse.move(*patch_centre(page, 3, 2))
    page.mouse.down()
    page.mouse.move(*patch_centre(page, 5, 4))
    page.mouse.move(*patch_centre(page, 7, 9))
    page.mouse.up()
    card = page.locator('[data-card="probe"]')
    assert "rows 4–8, columns 3–10" in card.inner_text()
    page.get_by_role("button", name="Probe: caption").click()
    until(page, f"{GET}.state.frame === {NEEDLE['frames'][0]}")
    page.evaluate(f"{GET}.flush()")
    plan = plan_of(data, page)
    y0, x0, y1, x1 = NEEDLE["box"]
    inside = plan.member_of[6:9, y0:y1, x0:x1]
    frames = np.arange(6, 9)[:, None, None]
    here = plan.boxes[:, 0].numpy()[inside.numpy()] == frames
    tokens = sum(len(np.unique(inside.numpy()[i][here[i]])) for i in range(3))
    text = card.locator("[data-probe=range]").inner_text()
    assert f"Frames 7–9: {tokens} token" in text
    assert f"of {inside.numel()} patches" in text
    assert f"{100 * (1 - here.mean()):.1f}% merged into other frames" in text


def test_keyboard_alone(page, data):
    page.locator(".stage").focus()
    before = state(page)
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    assert state(page)["frame"] == 1
    page.keyboard.press("End")
    assert state(page)["frame"] == FRAMES - 1
    page.keyboard.press("Home")
    page.keyboard.press("]")
    page.keyboard.press(",")
    steps = data.ranges["tauSpatial"]["step"], data.ranges["tauTemporal"]["step"]
    after = state(page)
    assert after["tauSpatial"] == pytest.approx(before["tauSpatial"] + steps[0])
    assert after["tauTemporal"] == pytest.approx(before["tauTemporal"] - steps[1])
    assert after["tokens"] == plan_of(data, page).num_tokens
    for key in ("Shift+ArrowRight", "Shift+ArrowDown", "Enter", "p", "b"):
        page.keyboard.press(key)
    until(page, f"{GET}.state.probe !== null && {GET}.state.pins.length === 1")
    page.locator('[data-card="probe"]').wait_for(state="visible", timeout=5000)
    assert "frames" in page.locator("[data-ref=spoken]").inner_text()
    page.keyboard.press("Space")
    until(page, f"{GET}.state.playing && {GET}.state.frame > 0")
    page.keyboard.press("Space")
    assert not page.evaluate(f"{GET}.state.playing")


def test_a_hidden_inspector_leaves_the_keys_alone(page):
    page.evaluate(f"{GET}.host.parentElement.style.display = 'none'")
    before = state(page)
    page.keyboard.press("]")
    assert state(page)["tauSpatial"] == before["tauSpatial"]
    page.evaluate(f"{GET}.host.parentElement.style.display = ''")
    page.keyboard.press("]")
    assert state(page)["tauSpatial"] > before["tauSpatial"], "keys work while nothing has the focus"


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_without_motion_a_chain_lights_up_at_once(open_page, tmp_path, data, motion):
    page = open_page(write_page(tmp_path, data), reduced_motion=motion)
    strength = page.evaluate(f"({GET}.pick(30), {GET}._strength({GET}._entries()[0]))")
    assert (strength == 1) == (motion == "reduce")


def test_the_overlays_change_the_picture(page):
    pictures = []
    for overlays in ([], ["outlines"], ["ghost"], ["chains"], ["heat"], ["outlines", "ghost", "chains"]):
        page.evaluate(f"{GET}.set({{frame: 3, overlays: {overlays}}})")
        pictures.append(page.evaluate(f"{GET}.png()"))
    assert len(set(pictures)) == len(pictures)


def test_the_rules_differ_where_the_picture_says(open_page, tmp_path):
    """On an odd grid the released rules split more; the legend tells how many tokens they keep."""
    data = inspector_data(scene(6), 13, 20)
    page = open_page(write_page(tmp_path, data))
    page.get_by_role("button", name="Paper vs released").click()
    page.evaluate(f"{GET}.flush()")
    now = state(page)
    released = data.tables.plan(now["tauSpatial"], now["tauTemporal"], "as_released")
    assert released.num_tokens != now["tokens"]
    assert f"as released: {released.num_tokens:,} tokens" in page.locator(".legend").inner_text()


@pytest.mark.parametrize("dark", [False, True])
def test_phone(open_page, tmp_path, data, keep_picture, dark):
    page = open_page(write_page(tmp_path, data), width=390, height=844, dark=dark, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.touchscreen.tap(*patch_centre(page, 6, 6))
    expect(page.locator(".panel.open")).to_be_visible()  # with the next picture
    panel = page.locator(".panel").bounding_box()
    assert panel["y"] + panel["height"] == pytest.approx(844, abs=1), "the card is a sheet at the bottom"
    assert page.evaluate(f"{GET}.section.classList.contains('dark')") == dark
    keep_picture(page, "phone-dark" if dark else "phone")


def test_wide_dark_and_presenting(open_page, tmp_path, data, keep_picture):
    page = open_page(write_page(tmp_path, data), width=2560, height=1300, dark=True)
    keep_picture(page, "wide-dark")
    page.get_by_role("button", name="Present").click()
    size = page.locator("[data-number=tokens]").evaluate("element => parseFloat(getComputedStyle(element).fontSize)")
    assert size >= 28
    until(page, "document.fullscreenElement !== null")
    page.evaluate("document.exitFullscreen()")
    until(page, f"!{GET}.section.classList.contains('presenting')")


def test_a_presenter_walks_through_the_story_and_comes_back(page, data, keep_picture):
    before = state(page)
    page.get_by_role("button", name="Present").click()
    story = page.locator("[data-ref=story]")
    until(page, f"{GET}.story.before !== null")
    rows, columns = data.tables.tree.height, data.tables.tree.width
    assert "1/4 What the model sees" in story.inner_text()
    assert f"{FRAMES} frames of {rows}×{columns} patches: {data.tables.num_patches:,} tokens" in story.inner_text()
    page.keyboard.press("ArrowRight")
    plan = data.tables.plan(before["tauSpatial"], before["tauTemporal"])
    assert "2/4 What merges" in story.inner_text()
    assert f"{100 * plan.retention:.1f}% stay, in {plan.num_chains} chains" in story.inner_text()
    page.keyboard.press("PageDown")
    assert "3/4 Where time goes" in story.inner_text() and "(predicted from measured times)" in story.inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")  # the last step is the last
    lowest = data.tables.plan(data.ranges["tauSpatial"]["min"], data.ranges["tauTemporal"]["min"])
    assert "4/4 What breaks" in story.inner_text()
    assert f"{100 * lowest.retention:.1f}% stay, and the" in story.inner_text() and "“caption”" in story.inner_text()
    assert state(page)["tokens"] == lowest.num_tokens
    keep_picture(page, "story")
    page.keyboard.press("ArrowLeft")
    assert "3/4" in story.inner_text()
    page.evaluate(f"{GET}.present(false)")
    until(page, f"{GET}.story.before === null")
    after = state(page)
    assert [after[name] for name in ("tauSpatial", "tauTemporal", "frame")] == [
        before[name] for name in ("tauSpatial", "tauTemporal", "frame")
    ]
    assert not story.is_visible()


def test_512_frames_stay_smooth(open_page, tmp_path):
    frames = scene(24)[np.arange(512) % 24]
    data = InspectorData.of(frames, np.arange(512), tables_of(frames, 8, 8), stage_side=160)
    page = open_page(write_page(tmp_path, data))
    width = page.locator("[data-ref=stripCanvas]").evaluate("canvas => canvas.width")
    assert width < 2 * 1440, "only the visible part of the filmstrip has pixels"
    page.locator(".stage").focus()
    page.keyboard.press("End")
    until(page, f"{GET}.state.frame === 511 && {GET}.strip.isVisible(511)")
    shown = page.evaluate(
        f"""() => {{ let shown = 0; const view = {GET}, {{painter}} = view, paint = painter.overlays;
        painter.overlays = function () {{ shown++; return paint.apply(this, arguments); }};
        view.set({{tauSpatial: 0.5}}); view.flush(); painter.overlays = paint; return shown; }}"""
    )
    assert 2 < shown < 40, f"{shown} frames were painted for one tick"


def test_another_video_and_a_sentence_in_its_place(page):
    frames = scene(4, seed=3)
    other = InspectorData.of(frames, range(4), similarity_tables(patch_features(frames, 9, 16)), title="other")
    page.evaluate(f"{GET}.message('Encoding frames ...')")
    assert page.get_by_text("Encoding frames ...").is_visible()
    page.evaluate(f"payload => {GET}.load(payload)", other.payload())
    assert page.locator(".message").is_hidden()
    assert state(page)["total"] == 4 * 9 * 16


def test_runs_are_in_the_export_as_text(open_page, tmp_path, data):
    runs = [{"settings": "0.9 / 0.8", "answer": "<script>alert(1)</script>"}, {"settings": "0.8", "kept": "12%"}]
    page = open_page(write_page(tmp_path, data, runs=runs, settings={"tauSpatial": 0.9, "frame": 2}))
    cells = page.locator(".runs td").all_inner_texts()
    assert cells == ["0.9 / 0.8", "<script>alert(1)</script>", "", "0.8", "", "12%"]
    assert (state(page)["tauSpatial"], state(page)["frame"]) == (0.9, 2)


def test_64_frames_export_below_10_mb():
    noisy = np.random.default_rng(0).integers(0, 256, (64, 90, 160, 3), dtype=np.uint8)
    frames = noisy.repeat(4, axis=1).repeat(4, axis=2)  # 640 x 360, harder to compress than any film
    data = InspectorData.of(frames, range(64), tables_of(frames, 14, 14))
    assert len(export_html(data).encode()) < 10_000_000
