"""The inspector inside a Gradio page: sliders drive it without the server, its keys drive the sliders."""

from __future__ import annotations

import gradio as gr
import pytest

from tests.ui.inspected import inspector_data, scene
from viz.inspector import InspectorData
from viz.inspector.component import SLIDERS_JS, as_update, component

VIEW = 'window.sttmInspector.get("main")'
SET = "(s, t) => { " + VIEW + ".set({tauSpatial: s, tauTemporal: t}); }"


def build(first: InspectorData, folder: str) -> gr.Blocks:
    with gr.Blocks() as demo:
        sliders = [
            gr.Slider(0.5, 1, value, step=0.001, label=name, elem_id=name)
            for name, value in (("tau_s", 0.97), ("tau_t", 0.98))
        ]
        view = component(first, inspector_id="main")
        for slider in sliders:
            slider.input(None, sliders, None, js=SET)
        view.change(None, None, sliders, js=SLIDERS_JS.format(id="main"))
        saved = InspectorData.load(folder).payload(f"gradio_api/file={folder}")
        gr.Button("Other").click(lambda: saved, None, view)
        gr.Button("Send").click(lambda: gr.HTML(settings=as_update({"tauSpatial": 0.9})), None, view)
        gr.Button("Busy").click(lambda: gr.HTML(message="Encoding frames ..."), None, view)
    return demo


@pytest.fixture
def address(tmp_path):
    folder = str(inspector_data(scene(9)).save(tmp_path / "saved"))
    demo = build(inspector_data(scene(4)), folder)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, allowed_paths=[folder])
    yield url
    demo.close()


def test_sliders_and_keys_without_the_server(open_page, address):
    page = open_page(address)
    page.wait_for_function(f"window.sttmInspector && {VIEW} && {VIEW}.video")
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    number = page.locator("#tau_s input[type=number]")
    number.fill("0.9")
    number.press("Tab")
    page.wait_for_function(f"{VIEW}.state.tauSpatial === 0.9")
    page.locator(".stage").focus()
    page.keyboard.press(",")
    expected = page.evaluate(f"{VIEW}.state.tauTemporal")
    assert expected < 0.98
    page.wait_for_function(f"document.querySelector('#tau_t input[type=number]').valueAsNumber === {expected}")
    assert [url for url in requests if not url.startswith("data:")] == []


def test_the_server_can_send_the_same_settings_again(open_page, address):
    page = open_page(address)
    page.wait_for_function(f"window.sttmInspector && {VIEW} && {VIEW}.video")
    for _ in range(2):
        page.evaluate(f"{VIEW}.set({{tauSpatial: 0.7}})")
        page.get_by_role("button", name="Send").click()
        page.wait_for_function(f"{VIEW}.state.tauSpatial === 0.9")


def test_the_server_shows_another_video_and_messages(open_page, address):
    page = open_page(address)
    page.wait_for_function(f"window.sttmInspector && {VIEW} && {VIEW}.video")
    page.get_by_role("button", name="Other").click()
    page.wait_for_function(f"{VIEW}.video.frames === 9 && {VIEW}.video.images.large(0) !== null")
    page.evaluate("document.body.classList.add('dark')")
    page.wait_for_function(f"{VIEW}.section.classList.contains('dark')")
    page.get_by_role("button", name="Busy").click()
    page.get_by_text("Encoding frames ...").wait_for()
