"""The inspector as a Gradio component. Everything happens in the browser; the server only hands it a video."""

from __future__ import annotations

import itertools
from typing import Any

import gradio as gr

from .bundle import script
from .data import InspectorData

_serial = itertools.count()

MOUNT = """
const inspector = mountInspector(element.querySelector(".sttm-inspector"), {
  ...INSPECTOR_PARTS, id: props.inspector_id, controls: props.controls, present: props.present,
});
const load = () => {
  if (props.value && props.value.tree) inspector.load(props.value, props.settings || {});
  else inspector.message(props.message);
};
watch("value", load);
watch("settings", () => inspector.set(props.settings || {}));
watch("message", () => inspector.message(props.message));
inspector.on("change", (settings) => trigger("change", settings));
inspector.on("select", (place) => trigger("select", place));
load();
"""


def component(
    data: InspectorData | dict[str, Any] | None = None,
    *,
    inspector_id: str = "inspector",
    controls: bool = False,
    present: bool = True,
    settings: dict[str, Any] | None = None,
    message: str = "No video yet. Choose a sample or upload one.",
    **html_arguments: Any,
) -> gr.HTML:
    """A `gr.HTML` whose value is a payload (`InspectorData.payload`).

    In Python, an update of ``value`` shows another video, ``gr.HTML(settings=as_update({...}))`` changes thresholds,
    rules, frame or overlays, and ``gr.HTML(message="...")`` puts a sentence in place of the picture ("" removes it).

    In the browser it is ``window.sttmInspector.get(inspector_id)``. Its ``set({tauSpatial, tauTemporal, rules, frame,
    overlays})`` tells nobody; what a person changes inside raises ``change``, a frame or token chosen ``select``.

    Sliders without a server call, both ways::

        view = component(data, inspector_id="main")
        tau_s.input(None, tau_s, None, js='v => { window.sttmInspector.get("main").set({tauSpatial: v}); }')
        view.change(None, None, [tau_s, tau_t], js=SLIDERS_JS.format(id="main"))

    Args:
        data: the video to begin with.
        inspector_id: name of this inspector on the page.
        controls: show the inspector's own sliders (an app has its own).
        present: show the button for full screen.
        settings: what to begin with, and to keep when another video is shown. An update with ``keep`` set brings
            another video and leaves thresholds and rules as they are by then.
        message: shown while there is no video.
    """
    value = data.payload() if isinstance(data, InspectorData) else data
    return gr.HTML(
        value=value,
        html_template='<div class="sttm-inspector"></div>',
        js_on_load=script() + MOUNT,
        apply_default_css=False,
        inspector_id=inspector_id,
        controls=controls,
        present=present,
        settings=settings or {},
        message=message,
        **html_arguments,
    )


def as_update(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings to send: never equal to the last ones, which Gradio would drop though a slider has moved since."""
    return {**settings, "serial": next(_serial)}


SLIDERS_JS = '() => {{ const s = window.sttmInspector.get("{id}").settings(); return [s.tauSpatial, s.tauTemporal]; }}'
