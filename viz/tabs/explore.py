"""Opening a video and seeing what is merged: the inspector and the panel that drives it. Sliders ask no server."""

from __future__ import annotations

from dataclasses import dataclass, replace

import gradio as gr
from sttm_core.budget import thresholds_for_retention

from sttm_core.comparison import MergeSettings
from sttm_core.plan import RULES
from sttm_core.video import is_browser_playable, write_preview

from ..inspector.component import SLIDERS_JS, component
from ..inspector.ranges import threshold_ranges
from ..studio import Studio, VideoRef
from .controls import BUDGET, THRESHOLDS, Controls, settings_from
from .errors import plain_errors

INSPECTOR_ID = "main"
MODEL = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
BROWSER_ONLY = {"fn": None, "show_progress": "hidden", "queue": False, "api_visibility": "private"}


@dataclass(frozen=True)
class Explore:
    """Components that other tabs need.

    Attributes:
        ref: `gr.State` with the `VideoRef` of this visit, None before the first video.
        view: the inspector.
        suggestions: clickable questions for the video.
        about: a line about the video.
        player: the original video, for those who want to play it.
        shown: every component that a newly opened video changes, in the order of `Explorer.show`.
    """

    ref: gr.State
    view: gr.HTML
    suggestions: gr.Dataset
    about: gr.Markdown
    player: gr.Video
    shown: list


class Explorer:
    """The handlers, apart from the page so that they can be tested without one."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def arrive(self, request: gr.Request):
        """The first thing on a page: the linked sample and settings, or the first sample."""
        query = dict(request.query_params) if request else {}
        sample = query.get("sample") if query.get("sample") in self.studio.samples else next(iter(self.studio.samples))
        settings = linked_settings(query, self.studio)
        ref = self.studio.open_sample(sample, linked_frames(query, self.studio.max_frames))
        mode = BUDGET if settings.retention is not None else THRESHOLDS
        budget = round(100 * (settings.retention or 0.3))
        overlays = {"frame": int(query["frame"])} if query.get("frame", "").isdigit() else {}
        return (
            *self.show(ref, settings, overlays),
            gr.Dropdown(value=sample), gr.Slider(value=ref.num_frames), gr.Radio(value=mode),
            gr.Slider(value=budget, visible=mode == BUDGET), gr.Radio(value=settings.rules),
            gr.Slider(value=self._layer(settings)),
        )  # fmt: skip

    def sample(self, sample_id: str, *values, progress=gr.Progress()):
        """Another sample, at its own number of frames."""
        progress(0.1, desc="decoding and encoding")
        ref = self.studio.open_sample(sample_id)
        return (*self.show(ref, settings_from(*values)), gr.Slider(value=ref.num_frames))

    def upload(self, path: str, frames: int, *values, progress=gr.Progress()):
        """A visitor's own file."""
        progress(0.1, desc="decoding")
        ref = self.studio.open(path, int(frames))
        progress(0.4, desc=f"encoding {frames} frames")
        return self.show(ref, settings_from(*values))

    def again(self, ref: VideoRef | None, frames: int, *values, progress=gr.Progress()):
        """The same video with another number of frames or another merge layer."""
        if ref is None:
            raise gr.Error("There is no video yet; choose a sample or upload one.", print_exception=False)
        progress(0.2, desc=f"encoding {frames} frames")
        ref = self.studio.open(ref.path, int(frames), ref.sample_id)
        return self.show(ref, settings_from(*values))

    def budget(self, ref: VideoRef | None, *values):
        """Thresholds for the budget, put on the sliders."""
        settings = settings_from(*values)
        if ref is None or settings.retention is None:
            return gr.skip(), gr.skip(), gr.skip()
        found = thresholds_for_retention(
            self.studio.encoded(ref, settings).tables, settings.retention, rules=settings.rules
        )
        if found.retention > settings.retention:
            gr.Warning(f"This video can't go below {found.retention:.1%}; that is what you see.")
        view = {"tauSpatial": found.tau_spatial, "tauTemporal": found.tau_temporal}
        return gr.Slider(value=found.tau_spatial), gr.Slider(value=found.tau_temporal), gr.HTML(settings=view)

    def show(self, ref: VideoRef, settings: MergeSettings, overlays: dict | None = None) -> tuple:
        """Updates for `Explore.shown` and both threshold sliders."""
        encoded = self.studio.encoded(ref, settings)
        if settings.retention is not None:
            plan = settings.plan(encoded)
            settings = replace(settings, tau_spatial=plan.tau_spatial, tau_temporal=plan.tau_temporal)
        data = self.studio.inspector_data(ref, settings)
        ranges = threshold_ranges(encoded.tables, settings.tau_spatial, settings.tau_temporal)
        chosen = {"tauSpatial": settings.tau_spatial, "tauTemporal": settings.tau_temporal, "rules": settings.rules}
        questions = self.studio.samples[ref.sample_id].questions if ref.sample_id else ()
        return (
            ref,
            gr.HTML(value=data.payload(), settings={**chosen, **(overlays or {})}, message=""),
            gr.Dataset(samples=[[q.text] for q in questions], visible=bool(questions)),
            self._about(ref, encoded),
            gr.Video(value=_playable(ref.path)),
            gr.Slider(value=settings.tau_spatial, **_range(ranges["tauSpatial"])),
            gr.Slider(value=settings.tau_temporal, **_range(ranges["tauTemporal"])),
        )

    def _about(self, ref: VideoRef, encoded) -> str:
        steps, height, width = encoded.layout.shape
        clip = encoded.clip
        size = f"{clip.source_size[1]}x{clip.source_size[0]}, {clip.duration_s:.1f} s"
        tokens = f"{clip.num_frames} frames, {steps}x{height}x{width} tokens"
        if not ref.sample_id:
            return f"**{ref.name}** · {size} · {tokens}"
        sample = self.studio.samples[ref.sample_id]
        return f"{sample.description} · {size} · {tokens}\n\n<small>{sample.attribution}</small>"

    def _layer(self, settings: MergeSettings) -> int:
        return self.studio.llm.default_merge_layer if settings.merge_layer is None else settings.merge_layer


def build_explore(studio: Studio) -> Explore:
    """The middle of the page; returns what the wiring needs."""
    ref = gr.State(None)
    view = component(
        inspector_id=INSPECTOR_ID, message="Opening the first sample…", elem_id="inspector",
        settings={"tauSpatial": studio.defaults.tau_spatial, "tauTemporal": studio.defaults.tau_temporal},
    )  # fmt: skip
    about = gr.Markdown(elem_id="about")
    suggestions = gr.Dataset(
        components=[gr.Textbox(visible=False)], samples=[], label="Suggested questions", layout="gallery",
        elem_id="suggestions", visible=False,
    )  # fmt: skip
    with gr.Accordion("Original video", open=False, elem_id="original"):
        player = gr.Video(interactive=False, show_label=False, elem_id="player", height=260)
    return Explore(ref, view, suggestions, about, player, [ref, view, suggestions, about, player])


def wire_explore(app: gr.Blocks, studio: Studio, controls: Controls, explore: Explore) -> list:
    """Connect panel and inspector; returns the events after which another video is shown."""
    explorer, c = Explorer(studio), controls
    taus = [c.tau_s, c.tau_t]
    shown = [*explore.shown, *taus]
    arrived = app.load(
        plain_errors(explorer.arrive), None, [*shown, c.sample, c.frames, c.mode, c.budget, c.rules, c.merge_layer],
        show_progress="hidden", **MODEL,
    )  # fmt: skip
    sampled = c.sample.input(
        plain_errors(explorer.sample),
        [c.sample, *c.settings],
        [*shown, c.frames],
        show_progress_on=explore.view,
        **MODEL,
    )
    uploaded = c.upload.upload(
        plain_errors(explorer.upload), [c.upload, c.frames, *c.settings], shown, show_progress_on=explore.view, **MODEL
    )
    again = gr.on(
        [c.frames.release, c.merge_layer.release], plain_errors(explorer.again), [explore.ref, c.frames, *c.settings],
        shown, show_progress_on=explore.view, **MODEL,
    )  # fmt: skip
    for slider, name in ((c.tau_s, "tauSpatial"), (c.tau_t, "tauTemporal")):
        slider.input(inputs=slider, js=_set_js(name), **BROWSER_ONLY)
    c.rules.input(inputs=c.rules, js=_set_js("rules"), **BROWSER_ONLY)
    explore.view.change(outputs=taus, js=SLIDERS_JS.format(id=INSPECTOR_ID), **BROWSER_ONLY)
    c.mode.input(_mode_controls, c.mode, [c.budget, *taus], queue=False, api_visibility="private")
    gr.on(
        [c.budget.release, c.mode.input, c.rules.input], plain_errors(explorer.budget), [explore.ref, *c.settings],
        [*taus, explore.view], show_progress="hidden", concurrency_limit=4, api_visibility="private",
    )  # fmt: skip
    return [arrived, sampled, uploaded, again]


def linked_settings(query: dict, studio: Studio) -> MergeSettings:
    """Settings from a link's query; what is missing or not valid there is as the model advises."""
    fallback = MergeSettings(studio.defaults.tau_spatial, studio.defaults.tau_temporal)
    try:
        return MergeSettings(
            tau_spatial=float(query.get("ts", fallback.tau_spatial)),
            tau_temporal=float(query.get("tt", fallback.tau_temporal)),
            retention=float(query["budget"]) / 100 if "budget" in query else None,
            rules=query["rules"] if query.get("rules") in RULES else "paper",
            merge_layer=min(int(query["layer"]), studio.llm.num_layers - 1)
            if query.get("layer", "").isdigit()
            else None,
        )
    except ValueError:
        return fallback


def linked_frames(query: dict, most: int) -> int | None:
    """Number of frames from a link's query, within 1 and ``most``; None if it does not say."""
    text = query.get("frames", "")
    return min(max(int(text), 1), most) if text.isdigit() else None


def _mode_controls(mode: str) -> tuple:
    by_budget = mode == BUDGET
    return gr.Slider(visible=by_budget), gr.Slider(interactive=not by_budget), gr.Slider(interactive=not by_budget)


def _set_js(name: str) -> str:
    return f'(value) => {{ window.sttmInspector?.get("{INSPECTOR_ID}")?.set({{{name}: value}}); }}'


def _range(found: dict) -> dict:
    return {"minimum": found["min"], "maximum": found["max"], "step": found["step"]}


def _playable(path: str) -> str | None:
    """The file itself, or an H.264 preview of it beside it where browsers can't play it."""
    if is_browser_playable(path):
        return path
    preview = f"{path}.preview.mp4"
    write_preview(path, preview)
    return preview
