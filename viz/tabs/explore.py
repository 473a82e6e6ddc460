"""Opening a video and seeing what is merged: the inspector and the panel that drives it. Sliders ask no server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from sttm_core.methods import Sttm
from sttm_core.methods.sttm.plan import MergePlan
from sttm_core.presets import presets_for
from sttm_core.settings import RunSettings

from ..budget_words import budget_words, plan_words, waiting_words
from ..files import Files
from ..inspector import InspectorData
from ..inspector.component import SLIDERS_JS, as_update, component
from ..inspector.recorded import plan_payload, waiting_payload
from ..precomputed import ROUTE
from ..studio import Studio, VideoRef, with_thresholds
from .controls import (
    BUDGET,
    NO_PRESET,
    NUMBERS,
    PANEL,
    TAUS,
    Controls,
    method_about,
    panel_updates,
    preset_frames,
    preset_updates,
    settings_from,
    shown_for,
    sttm_settings,
    warn_of_fewer_frames,
)
from .errors import plain_errors
from .link import ARRIVED_JS, Link
from .original import OriginalVideo
from .visit import Visit, of_video, opens

INSPECTOR_ID = "main"
MODEL = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
OPENING = {"concurrency_id": "opening", "concurrency_limit": 4, "api_visibility": "private"}
VIEW = f'window.sttmInspector?.get("{INSPECTOR_ID}")'
LINKED_JS = f"""() => {{
  const asked = [...new URLSearchParams(location.search).keys()].some((name) => name !== "__theme");
  const say = () => ({VIEW} ? {VIEW}.message("Opening the linked view…") : requestAnimationFrame(say));
  if (asked) say();
}}"""  # the page comes with the first sample: it must not be taken for the linked one
FOUND_JS = f"""(method, mode, found, ...shown) => {{
  if (!found?.words || found.method !== method) return shown;
  const {{words, tauSpatial, tauTemporal}} = found;
  if (method !== "{Sttm.name}") return [shown[0], shown[1], words];
  if (mode !== "{BUDGET}") return shown;
  {VIEW}?.set({{tauSpatial, tauTemporal}});
  return [tauSpatial, tauTemporal, words];
}}"""  # who went back to thresholds, or to another method, while they were being found keeps their own
PLANNING_JS = f"""(method) => {{
  {VIEW}?.set({{method}});
  if (method !== "{Sttm.name}") {VIEW}?.busy("Planning…");
}}"""  # at once, before the server knows
FAILED_JS = f"""(method) => {{
  {VIEW}?.set({{plan: {{method, title: "", waiting: "There is no plan at this budget; the message says why."}}}});
  {VIEW}?.busy("");
}}"""
SEEN = (
    "One frame as the language model reads it: each bright box is one token; what is dark went into a token of "
    "another frame, or was dropped."
)
INSTANT = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
BROWSER_ONLY = {"fn": None, **INSTANT}


@dataclass(frozen=True)
class Explore:
    """Components that other tabs need.

    Attributes:
        visit: `gr.State` with the `Visit`: which video is shown.
        opened: `gr.State` with the number of its opening; its change says that another video is shown.
        view: the inspector.
    """

    visit: gr.State
    opened: gr.State
    view: gr.HTML


@dataclass(frozen=True)
class Showing:
    """A video as the page shows it: the session's reference, the inspector's value and sliders, words about it
    and about what its budget led to."""

    ref: VideoRef
    payload: dict[str, Any]
    settings: dict[str, Any]
    ranges: dict[str, dict[str, float]]
    questions: list[list[str]]
    about: str
    budget: str = ""

    @property
    def sliders(self) -> tuple[dict, dict]:
        """Value, minimum, maximum and step of both threshold sliders."""
        return tuple(
            {"value": self.settings[name], "minimum": r["min"], "maximum": r["max"], "step": r["step"]}
            for name, r in ((name, self.ranges[name]) for name in ("tauSpatial", "tauTemporal"))
        )


class Explorer:
    """The handlers, apart from the page so that they can be tested without one."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def first(self) -> Showing:
        """The first sample as the model's defaults merge it: what a page shows before it asked anything."""
        ref = self.studio.open_sample(next(iter(self.studio.samples)))
        return self.showing(ref, self.studio.start)

    def open_linked(self, shown: VideoRef, request: gr.Request) -> tuple | None:
        """What the address asks for; None for a page without settings in its address."""
        query = dict(request.query_params) if request else {}
        if not query.keys() - {"__theme"}:
            return None
        link, s = Link.of(query, self.studio), self.studio
        ref = s.open_sample(link.sample, link.num_frames)
        settings = link.settings
        behind = settings if settings.name == Sttm.name else s.start
        return ref, (
            *updates(self.showing(ref, settings, behind, link.frame), interactive=settings.retention is None),
            gr.Dropdown(value=link.sample), gr.Slider(value=ref.asked),
            gr.Textbox(value=link.question) if link.question else gr.skip(), method_about(settings.name),
            *panel_updates(settings, s.merge_layer(behind)),
        )  # fmt: skip

    def open_sample(self, shown: VideoRef, sample_id: str, preset: str, **values) -> tuple:
        """Another sample, at its own number of frames, or at what the chosen published setting takes of it."""
        ref = self.studio.open_sample(sample_id, self._frames(preset, None))
        warn_of_fewer_frames(self.studio, preset, ref)
        return ref, (*self.shown_updates(ref, values), gr.Slider(value=ref.asked), gr.skip())

    def open_upload(
        self, shown: VideoRef, path: str, frames: int, preset: str, *, progress=gr.Progress(), **values
    ) -> tuple:
        """A visitor's own file, with the frames that the panel says or the chosen published setting takes of it."""
        progress(0.1, desc="decoding")
        ref, settings = self.studio.open(path, self._frames(preset, int(frames))), settings_from(values)
        warn_of_fewer_frames(self.studio, preset, ref)
        self.warn(ref, settings)
        progress(0.4, desc=f"encoding {ref.num_frames} frames")
        count = gr.skip() if preset == NO_PRESET else gr.Slider(value=ref.asked)
        return ref, (*self.shown_updates(ref, values), count, gr.Dropdown(value=None))

    def _frames(self, preset: str, frames: int | None) -> int | Callable[[float], int] | None:
        """What to open a video with: ``frames``, unless a published setting is chosen."""
        return frames if preset == NO_PRESET else preset_frames(self.studio, preset)

    def warn(self, ref: VideoRef, settings: RunSettings) -> None:
        """Say before anything runs if the unmerged video won't fit into memory."""
        expected = self.studio.llm.estimate(ref.num_frames, ref.size, merge_layer=settings.merge_layer)
        if expected.warning:
            gr.Warning(expected.warning, title="Large video")

    def reopen(self, shown: VideoRef, frames: int, *, progress=gr.Progress(), **values) -> tuple:
        """The same video with another number of frames or another merge layer."""
        settings = settings_from(values)
        ref = self._again(shown, frames, settings, progress)
        return ref, (*self.shown_updates(ref, values), gr.skip(), gr.skip())

    def reopen_as_published(self, shown: VideoRef, frames: int, *, progress=gr.Progress(), **values) -> tuple:
        """The same video as a published setting, already in the panel, merges it."""
        settings = settings_from(values)
        ref = self._again(shown, frames, settings, progress)
        return ref, (*updates(self.showing(ref, settings)), gr.skip(), gr.skip())

    def shown_updates(self, ref: VideoRef, values: Mapping[str, Any]) -> tuple:
        """Updates that show another video; thresholds that are not a budget's stay where they are by then."""
        settings, behind = settings_from(values), sttm_settings(values)
        return updates(self.showing(ref, settings, behind), keep=behind.retention is None)

    def _again(self, ref: VideoRef, frames: int, settings: RunSettings, progress: gr.Progress) -> VideoRef:
        """The same video with so many frames, after a warning where it won't fit."""
        progress(0.2, desc=f"encoding {frames} frames")
        if ref.sample_id:
            ref = self.studio.open_sample(ref.sample_id, int(frames))
        else:
            ref = self.studio.open(ref.path, int(frames))
        self.warn(ref, settings)
        return ref

    def budget(self, ref: VideoRef, **values) -> tuple[dict[str, Any] | None, Any]:
        """What a budget leaves: words and STTM's thresholds for `FOUND_JS`, and the view of another method's plan."""
        settings = settings_from(values)
        if settings.retention is None:
            return None, gr.skip()
        if settings.name != Sttm.name:
            recorded, words = self.recorded(ref, settings)
            return {"method": settings.name, "words": words}, gr.HTML(settings=as_update({"plan": recorded}))
        plan = self.studio.plan(ref, settings)
        if plan.retention > settings.retention:
            gr.Warning(f"This video can't go below {plan.retention:.1%}; that is what you see.", title="Budget")
        found = {"method": settings.name, "words": budget_words(plan, settings.retention)}
        return found | {"tauSpatial": plan.tau_spatial, "tauTemporal": plan.tau_temporal}, gr.skip()

    def recorded(self, ref: VideoRef, settings: RunSettings) -> tuple[dict[str, Any], str]:
        """The plan of a method that is not STTM for the browser, and words about it."""
        method = settings.method
        if method.acts_on != "tokens":
            return waiting_payload(method.name, waiting_words(method)), waiting_words(method)
        plan = self.studio.plan(ref, settings)
        return plan_payload(plan), plan_words(plan, settings.retention)

    def showing(
        self, ref: VideoRef, settings: RunSettings, behind: RunSettings | None = None, frame: int | None = None
    ) -> Showing:
        """The video with these settings, encoded or precomputed; at a frame, or else where its needle is seen.

        Args:
            behind: STTM's settings, where ``settings`` are of another method.
        """
        behind, words = behind or settings, ""
        if behind.retention is not None:
            plan = self.studio.plan(ref, behind)
            words, behind = budget_words(plan, behind.retention), with_thresholds(behind, plan)
        data = self.studio.inspector_data(ref, behind)
        chosen = inspector_settings(behind.method) | {"frame": _first_look(data) if frame is None else frame}
        if settings.name != Sttm.name:
            recorded, words = self.recorded(ref, settings)
            chosen |= {"method": settings.name, "plan": recorded}
        questions = self.studio.samples[ref.sample_id].questions if ref.sample_id else ()
        pictures = f"{ROUTE}/{ref.sample_id}" if self.studio.precomputed_data(ref, behind) else None
        return Showing(
            ref, data.payload(pictures), chosen, dict(data.ranges),
            [[q.text] for q in questions], self._about(ref, data), words,
        )  # fmt: skip

    def _about(self, ref: VideoRef, data: InspectorData) -> str:
        tree, (height, width) = data.tables.tree, ref.size
        steps = data.tables.num_frames
        tokens = f"{steps}×{tree.height}×{tree.width} tokens"
        facts = f"{width}×{height}, {ref.duration_s:.1f} s, {ref.num_frames} frames → {tokens}"
        if not ref.sample_id:
            return f"**{ref.name}** · {facts}"
        sample = self.studio.samples[ref.sample_id]
        credit = f" · {sample.attribution}" if sample.attribution else ""
        return f"{sample.description}\n\n<small>{facts}{credit}</small>"


def inspector_settings(sttm: Sttm | MergePlan) -> dict[str, Any]:
    """STTM's settings as the inspector takes them, of the method or of what it merged."""
    rules = sttm.method.rules if isinstance(sttm, MergePlan) else sttm.rules
    return {"tauSpatial": sttm.tau_spatial, "tauTemporal": sttm.tau_temporal, "rules": rules, "method": Sttm.name}


def _first_look(data: InspectorData) -> int:
    """The frame to open a video at: amid its first needle, where it has one."""
    return sum(data.needles[0]["frames"]) // 2 if data.needles else 0


def updates(showing: Showing, interactive: bool | None = None, keep: bool = False) -> tuple:
    """Updates that show a video.

    Args:
        interactive: whether its threshold sliders can be moved; None leaves that as it is.
        keep: leave thresholds and rules as they are when the page gets this, and change the sliders' ranges only.
    """
    sliders, settings = showing.sliders, showing.settings
    if keep:
        sliders = [{name: value for name, value in slider.items() if name != "value"} for slider in sliders]
        kept = ("tauSpatial", "tauTemporal", "rules")
        settings = {name: value for name, value in settings.items() if name not in kept} | {"keep": True}
    active = {} if interactive is None else {"interactive": interactive}
    seen = {} if interactive is None else {"visible": not interactive}
    active |= {} if interactive is None else {"visible": showing.settings["method"] == Sttm.name}
    s, t = sliders
    return (
        gr.HTML(value=showing.payload, settings=as_update(settings), message=""),
        gr.Dataset(samples=showing.questions, visible=bool(showing.questions)),
        showing.about,
        gr.Accordion(open=False),
        gr.Video(value=None),
        gr.Slider(**s, **active),
        gr.Slider(**t, **active),
        gr.HTML(value=showing.budget, **seen),
    )


def build_explore(showing: Showing) -> Explore:
    """The middle of the page, alive with its first video."""
    gr.HTML(SEEN, elem_id="seen", padding=False)
    view = component(
        showing.payload, inspector_id=INSPECTOR_ID, message="", elem_id="inspector", settings=showing.settings
    )
    return Explore(gr.State(Visit(showing.ref)), gr.State(0), view)


def wire_explore(
    app: gr.Blocks, studio: Studio, files: Files, controls: Controls, explore: Explore, suggestions: gr.Dataset,
    question: gr.Textbox,
) -> None:  # fmt: skip
    """Connect panel and inspector."""
    explorer, c, e = Explorer(studio), controls, explore
    taus, own = c.taus, c.settings
    shown = [e.opened, e.view, suggestions, c.about, c.original, c.player, *taus, c.found]
    both = [*shown, c.frames, c.sample]
    linked = [*shown, c.sample, c.frames, question, c.method_about, *(own[name] for name in PANEL)]
    app.load(js=LINKED_JS, **BROWSER_ONLY)
    arrived = app.load(
        plain_errors(opens(explorer.open_linked)), e.visit, linked, show_progress="hidden", **OPENING
    )
    arrived.then(js=f"() => {{ {ARRIVED_JS}; {VIEW}?.message(''); }}", **BROWSER_ONLY)
    loading = {"show_progress_on": e.view, "inputs_kwargs": own, **OPENING}
    reopening, names = [e.visit, c.frames], ("rules", "position_rule", "merge_layer")
    c.sample.input(plain_errors(opens(explorer.open_sample)), [e.visit, c.sample, c.preset], both, **loading)
    c.upload.upload(
        plain_errors(opens(explorer.open_upload)), [e.visit, c.upload, c.frames, c.preset], both, **loading
    )
    resized = [c.frames.release, own["merge_layer"].release]
    gr.on(resized, plain_errors(opens(explorer.reopen)), reopening, both, **loading)
    chosen = c.preset.input(
        plain_errors(of_video(partial(preset_updates, studio))), [e.visit, c.preset],
        [own["mode"], *taus, *(own[name] for name in names), c.frames], **INSTANT,
    )  # fmt: skip
    chosen.then(plain_errors(opens(explorer.reopen_as_published)), reopening, both, **loading)
    if presets_for(studio.llm.name):  # who then chooses a number of frames has left the published sampling
        c.frames.release(outputs=c.preset, js=f"() => {NO_PRESET!r}", **BROWSER_ONLY)
    for slider, name in zip(taus, ("tauSpatial", "tauTemporal"), strict=True):
        slider.input(inputs=slider, js=_set_js(name), **BROWSER_ONLY)
    own["rules"].input(inputs=own["rules"], js=_set_js("rules"), **BROWSER_ONLY)
    e.view.change(outputs=taus, js=SLIDERS_JS.format(id=INSPECTOR_ID), **BROWSER_ONLY)
    c.original.expand(plain_errors(of_video(OriginalVideo(files).show)), e.visit, c.player, **OPENING)
    gr.on(
        [own["method"].input, own["mode"].input], partial(panel_shown, bool(presets_for(studio.llm.name))),
        [own["method"], own["mode"]],
        [c.found, c.preset, c.method_about, *(own[name] for name in shown_for(Sttm.name, BUDGET))], **INSTANT,
    )  # fmt: skip
    _wire_budget(explorer, controls, explore)


def _wire_budget(explorer: Explorer, c: Controls, e: Explore) -> None:
    """What a budget leaves is asked of the server when its slider is let go, or another setting of it changes."""
    own, found = c.settings, gr.JSON(visible="hidden")
    moves = [own["percent"].release, *(own[name].input for name in ("method", "mode", "prefer", "rules"))]
    moves += [own[name].submit for name in NUMBERS] + [own[name].blur for name in NUMBERS]
    gr.on(moves, inputs=own["method"], js=PLANNING_JS, **BROWSER_ONLY)
    finding = gr.on(
        moves, plain_errors(of_video(explorer.budget, late=({}, gr.skip()))), e.visit, [found, e.view],
        inputs_kwargs=own, show_progress="hidden", trigger_mode="always_last", **OPENING,
    )  # fmt: skip
    finding.success(
        inputs=[own["method"], own["mode"], found, *c.taus, c.found], outputs=[*c.taus, c.found], js=FOUND_JS,
        **BROWSER_ONLY,
    )  # fmt: skip
    finding.failure(inputs=own["method"], js=FAILED_JS, **BROWSER_ONLY)


def panel_shown(presets: bool, method: str, mode: str) -> tuple:
    """Which controls a method and a mode need: of what was found, presets, words about the method, all settings."""
    shown, sttm = shown_for(method, mode), method == Sttm.name
    by_thresholds = sttm and mode != BUDGET
    more = {name: {"interactive": by_thresholds} for name in TAUS}
    return (
        gr.update(visible=not by_thresholds), gr.update(visible=sttm and presets), method_about(method),
        *(gr.update(visible=visible, **more.get(name, {})) for name, visible in shown.items()),
    )  # fmt: skip


def _set_js(name: str) -> str:
    return f"(value) => {{ {VIEW}?.set({{{name}: value}}); }}"
