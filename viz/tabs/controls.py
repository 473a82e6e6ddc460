"""The left panel: which video, how many frames, what is merged."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from sttm_core.comparison import MergeSettings
from sttm_core.plan import RULES
from sttm_core.positions import POSITION_RULES

from ..glossary import glossary_html
from ..studio import Studio

THRESHOLDS, BUDGET = "thresholds", "budget"
MODEL_DEFAULT = "model's own"


@dataclass(frozen=True)
class Controls:
    """Components of the left panel. ``settings`` is what every handler takes for `settings_from`, in its order."""

    sample: gr.Dropdown
    upload: gr.UploadButton
    frames: gr.Slider
    mode: gr.Radio
    tau_s: gr.Slider
    tau_t: gr.Slider
    budget: gr.Slider
    rules: gr.Radio
    position_rule: gr.Radio
    merge_layer: gr.Slider
    runs: gr.Radio
    new_tokens: gr.Slider

    @property
    def settings(self) -> list:
        return [self.mode, self.tau_s, self.tau_t, self.budget, self.rules, self.position_rule, self.merge_layer]


def settings_from(mode, tau_s, tau_t, budget, rules, position_rule, merge_layer) -> MergeSettings:
    """`MergeSettings` from the values of `Controls.settings`; ValueError in one sentence if one is out of range."""
    return MergeSettings(
        tau_spatial=float(tau_s),
        tau_temporal=float(tau_t),
        retention=float(budget) / 100 if mode == BUDGET else None,
        rules=rules,
        merge_layer=int(merge_layer),
        position_rule=None if position_rule == MODEL_DEFAULT else position_rule,
    )


def build_controls(studio: Studio) -> Controls:
    """The panel; wiring is the tabs' business."""
    samples = [(sample.title, sample.id) for sample in studio.samples.values()]
    first = samples[0][1] if samples else None
    frames = min(studio.samples[first].num_frames, studio.max_frames) if first else min(16, studio.max_frames)
    sample = gr.Dropdown(samples, value=first, label="Sample clip", elem_id="sample", filterable=False)
    upload = gr.UploadButton("Upload a video", file_types=["video"], size="sm", elem_id="upload")
    frame_count = gr.Slider(
        1, studio.max_frames, frames, step=1, label="Frames", elem_id="frames",
        info="evenly spaced over the video",
    )  # fmt: skip
    mode = gr.Radio([THRESHOLDS, BUDGET], value=THRESHOLDS, label="Merge by", elem_id="mode")
    tau_s = gr.Slider(
        0.5, 1.01, studio.defaults.tau_spatial, step=0.005, label="Spatial threshold τ_S", elem_id="tau-s",
        info="lower merges more inside a frame",
    )  # fmt: skip
    tau_t = gr.Slider(
        0.5, 1.01, studio.defaults.tau_temporal, step=0.005, label="Temporal threshold τ_T", elem_id="tau-t",
        info="lower merges more through time",
    )  # fmt: skip
    budget = gr.Slider(
        2, 100, 30, step=1, label="Budget: % of tokens to keep", elem_id="budget", visible=False,
        info="both thresholds are found for it",
    )  # fmt: skip
    gr.HTML(glossary_html(), elem_id="glossary")
    with gr.Accordion("Rules, positions, layer", open=False, elem_id="more"):
        rules = gr.Radio(
            list(RULES), value="paper", label="Rules", elem_id="rules",
            info="as the paper says, or as its released code does",
        )  # fmt: skip
        position_rule = gr.Radio(
            [MODEL_DEFAULT, *POSITION_RULES], value=MODEL_DEFAULT, label="Positions after merging", elem_id="positions",
            info=f"this model's own: {studio.llm.family.position_rule}",
        )  # fmt: skip
        merge_layer = gr.Slider(
            0, studio.llm.num_layers - 1, studio.llm.default_merge_layer, step=1,
            label="Merge before decoder layer", elem_id="layer",
        )  # fmt: skip
        runs = gr.Radio([1, 3, 5], value=3, label="Timed runs (median)", elem_id="runs")
        new_tokens = gr.Slider(1, 512, 64, step=1, label="Longest answer, tokens", elem_id="new-tokens")
    return Controls(
        sample, upload, frame_count, mode, tau_s, tau_t, budget, rules, position_rule, merge_layer, runs, new_tokens
    )
