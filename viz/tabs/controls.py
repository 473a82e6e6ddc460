"""The left panel: which video, how many frames, what is merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from sttm_core.method import RULES
from sttm_core.methods.sttm.budget import EXPONENTS
from sttm_core.positions import POSITION_RULES
from sttm_core.presets import preset as published_preset
from sttm_core.presets import presets_for
from sttm_core.settings import RunSettings

from ..glossary import glossary_html
from ..studio import Studio, VideoRef

THRESHOLDS, BUDGET = "thresholds", "budget"
MODEL_DEFAULT = "model's own"
NO_PRESET = "none"
PATHS = {"balanced": "both", "spatial": "τ_S", "temporal": "τ_T"}


@dataclass(frozen=True)
class Controls:
    """Components of the left panel. ``settings`` is what every handler takes for `settings_from`, in its order."""

    sample: gr.Dropdown
    upload: gr.UploadButton
    about: gr.Markdown
    frames: gr.Slider
    mode: gr.Radio
    tau_s: gr.Slider
    tau_t: gr.Slider
    budget: gr.Slider
    prefer: gr.Radio
    found: gr.HTML
    preset: gr.Dropdown
    rules: gr.Radio
    position_rule: gr.Radio
    merge_layer: gr.Slider
    runs: gr.Radio
    new_tokens: gr.Slider
    original: gr.Accordion
    player: gr.Video

    @property
    def settings(self) -> list:
        values = [self.mode, self.tau_s, self.tau_t, self.budget, self.prefer]
        return [*values, self.rules, self.position_rule, self.merge_layer]


def settings_from(mode, tau_s, tau_t, budget, prefer, rules, position_rule, merge_layer) -> RunSettings:
    """`RunSettings` from the values of `Controls.settings`; ValueError in one sentence if one is out of range."""
    return RunSettings.of(
        tau_spatial=float(tau_s),
        tau_temporal=float(tau_t),
        retention=float(budget) / 100 if mode == BUDGET else None,
        rules=rules,
        merge_layer=int(merge_layer),
        position_rule=None if position_rule == MODEL_DEFAULT else position_rule,
        prefer=prefer,
    )


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
    return Controls(*video, *merge, *finer, original, player)


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
    mode = gr.Radio([THRESHOLDS, BUDGET], value=THRESHOLDS, label="Merge by", elem_id="mode")
    budget = gr.Slider(
        2, 100, 30, step=1, label="Tokens to keep, %", elem_id="budget", visible=False, buttons=[],
    )  # fmt: skip
    prefer = gr.Radio(
        [(PATHS[name], name) for name in EXPONENTS], value=studio.defaults.prefer, label="Which threshold falls first",
        elem_id="prefer", visible=False,
    )  # fmt: skip
    tau_s = gr.Slider(**sliders[0], label="Spatial threshold τ_S", elem_id="tau-s", buttons=[])
    tau_t = gr.Slider(**sliders[1], label="Temporal threshold τ_T", elem_id="tau-t", buttons=[])
    found = gr.HTML(visible=False, elem_id="found")
    return mode, tau_s, tau_t, budget, prefer, found


def _finer_controls(studio: Studio) -> tuple:
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
    return preset, rules, position_rule, merge_layer, runs, new_tokens


def _whole_slider(low: int, high: int, value: int, **more) -> gr.Slider:
    """A slider over whole numbers; shown and fixed where there is only one (Gradio wants two ends)."""
    fixed = {"interactive": False} if low == high else {}
    return gr.Slider(low, max(high, low + 1), value, step=1, buttons=[], **fixed, **more)
