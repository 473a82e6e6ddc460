"""The left panel: which video, how many frames, what is merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sttm_core.method import RULES
from sttm_core.methods import METHODS, Method, Sttm
from sttm_core.methods.sttm.budget import EXPONENTS
from sttm_core.positions import POSITION_RULES
from sttm_core.presets import preset as published_preset
from sttm_core.presets import presets_for
from sttm_core.settings import RunSettings, knobs_for

from ..glossary import glossary_html
from ..studio import Studio, VideoRef

THRESHOLDS, BUDGET = "thresholds", "budget"
MODEL_DEFAULT = "model's own"
DEFAULT_BUDGET = 0.3
NO_PRESET = "none"
PATHS = {"balanced": "both", "spatial": "τ_S", "temporal": "τ_T"}


def _numbers() -> dict[str, float]:
    """Knobs that are plain numbers and that STTM does not have, with their defaults: one field each."""
    every = {name: value for method in METHODS.values() for name, value in method.knobs().items()}
    return {
        name: value for name, value in every.items()
        if isinstance(value, (int, float)) and name not in ("retention", *Sttm.knobs())
    }  # fmt: skip


NUMBERS = _numbers()


@dataclass(frozen=True)
class Controls:
    """Components of the left panel.

    ``settings`` are those that decide what is left of a video, by name: every handler takes their values for
    `settings_from`, as keywords (Gradio's ``inputs_kwargs``).
    """

    sample: gr.Dropdown
    upload: gr.UploadButton
    about: gr.Markdown
    frames: gr.Slider
    settings: dict[str, Any]
    method_about: gr.HTML
    found: gr.HTML
    preset: gr.Dropdown
    runs: gr.Radio
    new_tokens: gr.Slider
    original: gr.Accordion
    player: gr.Video

    @property
    def taus(self) -> list[gr.Slider]:
        return [self.settings["tau_spatial"], self.settings["tau_temporal"]]


def settings_from(values: Mapping[str, Any]) -> RunSettings:
    """`RunSettings` from the values of `Controls.settings` by name; ValueError in one sentence if one is out of range.

    Any method but STTM goes by the budget, and acts before the layer that it was published for.
    """
    method = values["method"]
    by_thresholds = method == Sttm.name and values["mode"] != BUDGET
    given = {
        **{name: _number(values[name], value) for name, value in NUMBERS.items()},
        "tau_spatial": float(values["tau_spatial"]),
        "tau_temporal": float(values["tau_temporal"]),
        "prefer": values["prefer"],
        "rules": values["rules"],
        "retention": None if by_thresholds else float(values["percent"]) / 100,
        "position_rule": None if values["position_rule"] == MODEL_DEFAULT else values["position_rule"],
        "merge_layer": int(values["merge_layer"]) if method == Sttm.name else None,
    }
    return RunSettings.of(method, **knobs_for(method, given))


def sttm_settings(values: Mapping[str, Any]) -> RunSettings:
    """The settings that the panel has for STTM, whichever method is chosen: its sliders stay alive behind."""
    return settings_from({**values, "method": Sttm.name})


def _number(value: float | None, default: float) -> float:
    """What a number field holds, as its knob takes it; an empty one means the default."""
    return default if value is None else type(default)(value)


def shown_for(method: str, mode: str) -> dict[str, bool]:
    """Which settings a method has to be asked for, by name."""
    knobs, sttm = METHODS[method].knobs(), method == Sttm.name
    by_budget = not sttm or mode == BUDGET
    return {
        "mode": sttm, "percent": by_budget, "prefer": sttm and by_budget, "tau_spatial": sttm, "tau_temporal": sttm,
        "rules": "rules" in knobs, "merge_layer": sttm, **{name: name in knobs for name in NUMBERS},
    }  # fmt: skip


TAUS = ("tau_spatial", "tau_temporal")
PANEL = ("method", "position_rule", *(name for name in shown_for(Sttm.name, THRESHOLDS) if name not in TAUS))


def panel_updates(settings: RunSettings, merge_layer: int) -> tuple:
    """Updates, in the order of `PANEL`, that make the panel say these settings; both thresholds come with the video.

    Args:
        merge_layer: STTM's.
    """
    mode = THRESHOLDS if settings.retention is None else BUDGET
    values = settings.as_dict() | {
        "mode": mode, "percent": round(100 * (settings.retention or DEFAULT_BUDGET)),
        "position_rule": settings.position_rule or MODEL_DEFAULT, "merge_layer": merge_layer,
    }  # fmt: skip
    visible = shown_for(settings.name, mode)
    return tuple(
        gr.update(**{"value": values[name]} if name in values else {},
                  **{"visible": visible[name]} if name in visible else {})
        for name in PANEL
    )  # fmt: skip


def method_about(method: str) -> str:
    """One line about a method: where it was published, where it acts, whether the question decides."""
    if method == Sttm.name:
        return ""
    kind: type[Method] = METHODS[method]
    where = {"tokens": "on tokens", "layers": "inside the decoder's layers", "pixels": "on pixels"}[kind.acts_on]
    asks = ", and the question decides: its picture appears with the answer" if kind.query_aware else ""
    layer = "" if kind.merge_layer is None or kind.acts_on == "pixels" else f" from layer {kind.merge_layer} on"
    paper = kind.paper[:1].upper() + kind.paper[1:]
    return f"{paper}. Acts {where}{layer}{asks}."


def preset_frames(studio: Studio, name: str) -> Callable[[float], int]:
    """How many frames a published setting takes of a video of so many seconds, as in a shell; at most the app's."""
    found = published_preset(name, studio.llm.name)
    return lambda duration_s: min(found.sampling(duration_s), studio.max_frames)


def warn_of_fewer_frames(studio: Studio, name: str, ref: VideoRef) -> None:
    """Say so where the app takes fewer frames of a video than the published setting, if one is chosen."""
    wanted = 0 if name == NO_PRESET else published_preset(name, studio.llm.name).sampling(ref.duration_s)
    if wanted > studio.max_frames:
        most = f"this page at most {studio.max_frames}"
        gr.Warning(f"{name} takes {wanted} frames of this video, {most}.", title="Frames")


def preset_updates(studio: Studio, ref: VideoRef, name: str) -> tuple:
    """Updates of mode, both thresholds, rules, positions, layer and frames for a published setting.

    The range of the threshold sliders is widened to hold it; frames are those that it takes of the video shown.
    """
    if name == NO_PRESET:
        return (gr.skip(),) * 7
    found, layers = published_preset(name, studio.llm.name), studio.llm.merge_layers
    warn_of_fewer_frames(studio, name, ref)
    return (
        gr.Radio(value=THRESHOLDS),
        gr.Slider(value=found.tau_spatial, minimum=min(0.5, found.tau_spatial)),
        gr.Slider(value=found.tau_temporal, minimum=min(0.5, found.tau_temporal)),
        gr.Radio(value=found.rules),
        gr.Radio(value=found.position_rule),
        gr.Slider(value=min(max(found.merge_layer, layers[0]), layers[-1])),
        gr.Slider(value=preset_frames(studio, name)(ref.duration_s)),
    )


def build_controls(studio: Studio, sliders: tuple[dict, dict], about: str) -> Controls:
    """The panel; wiring is the tabs' business.

    Args:
        studio: knows the samples and the model.
        sliders: value, minimum, maximum and step of both threshold sliders for the first video.
        about: words about the first video.
    """
    with gr.Column(elem_id="panel-video", min_width=200):
        video = _video_controls(studio, about)
    with gr.Column(elem_id="panel-merge", min_width=200):
        merge = _merge_controls(studio, sliders)
    gr.HTML(glossary_html(), elem_id="glossary")
    with gr.Accordion("Rules, positions, layer, runs", open=False, elem_id="more"):
        finer = _finer_controls(studio)
    with gr.Accordion("Original video", open=False, elem_id="original") as original:
        player = gr.Video(interactive=False, show_label=False, elem_id="player", height=220)
    settings, about_method, found = merge
    preset, more, runs, new_tokens = finer
    return Controls(*video, settings | more, about_method, found, preset, runs, new_tokens, original, player)


def _video_controls(studio: Studio, about: str) -> tuple:
    samples = [(sample.title, sample.id) for sample in studio.samples.values()]
    first = next(iter(studio.samples.values()))
    frames = min(first.num_frames, studio.max_frames)
    sample = gr.Dropdown(samples, value=first.id, label="Sample clip", elem_id="sample", filterable=False)
    upload = gr.UploadButton("Upload a video", file_types=["video"], size="sm", elem_id="upload")
    words = gr.Markdown(about, elem_id="about")
    count = _whole_slider(1, studio.max_frames, frames, label="Frames", elem_id="frames")
    return sample, upload, words, count


def _merge_controls(studio: Studio, sliders: tuple[dict, dict]) -> tuple:
    """Settings by name, words about the method, and what a budget found."""
    choices = [(_method_title(method), name) for name, method in METHODS.items()]
    method = gr.Dropdown(choices, value=Sttm.name, label="Method", elem_id="method", filterable=False)
    about = gr.HTML("", elem_id="method-about", padding=False)
    mode = gr.Radio([THRESHOLDS, BUDGET], value=THRESHOLDS, label="Merge by", elem_id="mode")
    percent = gr.Slider(
        2, 100, 30, step=1, label="Tokens to keep, %", elem_id="budget", visible=False, buttons=[],
    )  # fmt: skip
    prefer = gr.Radio(
        [(PATHS[name], name) for name in EXPONENTS], value=studio.defaults.prefer, label="Which threshold falls first",
        elem_id="prefer", visible=False,
    )  # fmt: skip
    numbers = {
        name: gr.Number(value, label=name.replace("_", " ").capitalize(), visible=False, elem_id=f"knob-{name}",
                        precision=0 if isinstance(value, int) else None)
        for name, value in NUMBERS.items()
    }  # fmt: skip
    tau_s = gr.Slider(**sliders[0], label="Spatial threshold τ_S", elem_id="tau-s", buttons=[])
    tau_t = gr.Slider(**sliders[1], label="Temporal threshold τ_T", elem_id="tau-t", buttons=[])
    found = gr.HTML(visible=False, elem_id="found")
    settings = {"method": method, "mode": mode, "percent": percent, "prefer": prefer}
    return settings | {"tau_spatial": tau_s, "tau_temporal": tau_t} | numbers, about, found


def _method_title(method: type[Method]) -> str:
    """As in the list: a method that reads the question, or acts on pixels, says so."""
    note = "reads the question" if method.query_aware else "pixels" if method.acts_on == "pixels" else ""
    return f"{method.title} ({note})" if note else method.title


def _finer_controls(studio: Studio) -> tuple:
    """The preset, settings by name, timed runs and the longest answer."""
    published = presets_for(studio.llm.name)
    preset = gr.Dropdown(
        [NO_PRESET, *(found.name for found in published)], value=NO_PRESET, label="Published settings",
        info=published[0].source if published else "", visible=bool(published), filterable=False, elem_id="preset",
    )  # fmt: skip
    rules = gr.Radio(
        list(RULES), value="paper", label="Rules", elem_id="rules",
        info="as the paper says, or as its released code does",
    )  # fmt: skip
    position_rule = gr.Radio(
        [MODEL_DEFAULT, *POSITION_RULES], value=MODEL_DEFAULT, label="Positions after merging", elem_id="positions",
        info=f"this model's own: {studio.llm.default_position_rule}",
    )  # fmt: skip
    layers, first = studio.llm.merge_layers, studio.llm.default_merge_layer
    merge_layer = _whole_slider(layers[0], layers[-1], first, label="Merge before layer", elem_id="layer")
    runs = gr.Radio([1, 3, 5], value=3, label="Timed runs (median)", elem_id="runs")
    new_tokens = gr.Slider(1, 512, 64, step=1, label="Longest answer, tokens", elem_id="new-tokens", buttons=[])
    settings = {"rules": rules, "position_rule": position_rule, "merge_layer": merge_layer}
    return preset, settings, runs, new_tokens


def _whole_slider(low: int, high: int, value: int, **more) -> gr.Slider:
    """A slider over whole numbers; shown and fixed where there is only one (Gradio wants two ends)."""
    fixed = {"interactive": False} if low == high else {}
    return gr.Slider(low, max(high, low + 1), value, step=1, buttons=[], **fixed, **more)
