"""How far can it go? One question at falling budgets, and retention over both thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr
import numpy as np

from sttm_core.comparison import first_token
from sttm_core.engine import EncodedVideo
from sttm_core.method import Plan
from sttm_core.methods import Sttm
from sttm_core.methods.sttm.budget import retention_surface
from sttm_core.methods.sttm.plan import MergePlan
from sttm_core.settings import RunSettings

from ..charts import retention_per_frame, retention_surface_chart
from ..inspector.ranges import threshold_ranges
from ..labels import duration
from ..studio import Studio, VideoRef, with_thresholds
from .busy import busy_from, idle_after
from .controls import Controls, settings_from
from .errors import plain_errors
from .explore import BROWSER_ONLY, INSTANT, MODEL, Explore
from .save_svg import save_svg_js
from .visit import of_video

BUDGETS = (1.0, 0.5, 0.3, 0.2, 0.15, 0.1, 0.05)
LADDER = (
    "budget", "kept", "tokens", "τ_S", "τ_T", "answer", "same", "prefill + first token", "× faster", "needle tokens"
)  # fmt: skip
SURFACE_STEPS = 20
RUN = "Sweep budgets"


@dataclass(frozen=True)
class Sweep:
    """Components of the tab."""

    question: gr.Textbox
    run: gr.Button
    stop: gr.Button
    table: gr.Dataframe
    draw: gr.Button
    charts: gr.Column
    surface: gr.Plot
    frames: gr.Plot


class Sweeper:
    """The handlers."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def ladder(self, ref: VideoRef, question: str, new_tokens: int, *, progress=gr.Progress(), **values):
        """Ask once a budget, from all tokens down, after a warm-up; the table grows row by row."""
        settings, rows, first = settings_from(values), [], None
        self.studio.llm.check_prompt(question, ref.num_frames, ref.size, max_new_tokens=int(new_tokens))
        held = self.studio.hold(ref, settings)
        encoded = held.whole
        progress(0, desc="warming up")
        first_token(self.studio.llm, encoded, None, question, None, self.studio.allowance())
        for step, budget in enumerate(BUDGETS):
            progress(step / len(BUDGETS), desc=f"asking at {budget:.0%}")
            allowance = self.studio.allowance()  # a question at each budget
            at = settings.but(retention=budget)
            method = None if budget == 1 else self.studio.method_for(held, at, question, allowance)
            prefix, _ = self.studio.prefix(held, at, method, question, allowance)
            plan = prefix.plan
            answer = self.studio.llm.answer(prefix, question, max_new_tokens=int(new_tokens), allowance=allowance)
            first = first or answer
            speedup = first.timings.language_model / answer.timings.language_model
            rows.append([
                "all" if plan is None else f"{budget:.0%}",
                f"{prefix.video_tokens / encoded.layout.num_patches:.1%}", prefix.video_tokens,
                *thresholds(plan),
                answer.text, "yes" if answer.text == first.text else "changed",
                duration(answer.timings.language_model), f"{speedup:.2f}",
                self._needle_tokens(ref, encoded, plan, question),
            ])  # fmt: skip
            yield rows

    def charts(self, ref: VideoRef, dark: bool, **values):
        """The charts shown: retention over both thresholds with the present point, and over the frames."""
        settings = settings_from(values)
        if settings.name != Sttm.name:
            raise ValueError(f"{settings.method.title} has no thresholds to draw this over; choose STTM.")
        encoded, plan = self.studio.planned(ref, settings)
        taus_s, taus_t = surface_axes(encoded, with_thresholds(settings, plan))
        surface = retention_surface(encoded.tables, taus_s, taus_t, rules=settings.method.rules)
        point = (plan.tau_spatial, plan.tau_temporal)
        times = encoded.clip.times[encoded.step_frames]
        return (
            gr.Column(visible=True),
            retention_surface_chart(
                surface, taus_s, taus_t, point, settings.retention or plan.retention, dark=bool(dark)
            ),
            retention_per_frame(plan, times, dark=bool(dark)),
        )

    def _needle_tokens(self, ref: VideoRef, encoded: EncodedVideo, plan: Plan | None, question: str) -> str:
        """Tokens that hold a patch of this question's needle, where it is known and in the sampled frames."""
        return ", ".join(str(tokens_in_box(n, plan)) for n in self.studio.needles_of(ref, encoded, question.strip()))


def thresholds(plan: Plan | None) -> tuple[str, str]:
    """What a plan of STTM used; empty for another one."""
    return (f"{plan.tau_spatial:.4g}", f"{plan.tau_temporal:.4g}") if isinstance(plan, MergePlan) else ("", "")


def tokens_in_box(needle: dict, plan: Plan | None) -> int:
    """Output tokens that hold at least one patch of the needle's box, in its frames; all patches without a plan."""
    (first, last), (y0, x0, y1, x1) = needle["frames"], needle["box"]
    if plan is None:
        return (last - first + 1) * (y1 - y0) * (x1 - x0)
    inside = plan.member_of[first : last + 1, y0:y1, x0:x1]
    return len(inside[inside >= 0].unique())


def empty_sweep() -> tuple:
    """The tab before a run: what another video was measured at is no answer about this one."""
    return [], gr.Column(visible=False)


def surface_axes(encoded: EncodedVideo, settings: RunSettings) -> tuple[np.ndarray, np.ndarray]:
    """Threshold values for the surface: the range in which this video's retention moves."""
    ranges = threshold_ranges(encoded.tables, settings.method.tau_spatial, settings.method.tau_temporal)
    return tuple(
        np.linspace(ranges[name]["min"], min(1.0, ranges[name]["max"]), SURFACE_STEPS)
        for name in ("tauSpatial", "tauTemporal")
    )


def build_sweep() -> Sweep:
    """The tab's components."""
    gr.Markdown(
        "Ask one question at falling budgets: where does the answer change, and what is gained until there? "
        "Times are the language model's own part (merge, prefill, first token), one run each after a warm-up."
    )
    with gr.Row():
        question = gr.Textbox(
            show_label=False, container=False, scale=8, placeholder="What code is shown?", elem_id="sweep-question"
        )
        run = gr.Button(RUN, variant="primary", scale=0, min_width=170, elem_id="sweep-run")
        stop = gr.Button("Stop", scale=0, min_width=70, interactive=False)
    table = gr.Dataframe(
        headers=list(LADDER), value=[], interactive=False, show_label=False, wrap=True, elem_id="ladder"
    )
    gr.Markdown("Retention over both thresholds, where this video stands now, and the curve of equal retention.")
    draw = gr.Button("Draw for the present settings", size="sm", elem_id="draw-surface")
    with gr.Column(visible=False) as charts:  # until there is something to see
        with gr.Row():
            surface = gr.Plot(show_label=False, elem_id="surface")
            frames = gr.Plot(show_label=False, elem_id="per-frame")
        with gr.Row():
            for plot, name in (("surface", "retention-surface"), ("per-frame", "tokens-per-frame")):
                svg = gr.Button("Save as SVG", size="sm", elem_id=f"{plot}-svg")
                svg.click(js=save_svg_js(plot, name), **BROWSER_ONLY)
    return Sweep(question, run, stop, table, draw, charts, surface, frames)


def wire_sweep(
    studio: Studio, controls: Controls, explore: Explore, sweep: Sweep, main_question: gr.Textbox, dark
) -> None:
    """Connect the tab; its question follows the main one."""
    sweeper = Sweeper(studio)
    starts = [sweep.run.click, sweep.question.submit]
    busy_from(starts, sweep.run, sweep.stop, "Sweeping…", sweep.question)
    running = gr.on(
        starts, plain_errors(of_video(sweeper.ladder)),
        [explore.visit, sweep.question, controls.new_tokens], sweep.table,
        inputs_kwargs=controls.settings, **MODEL,
    )  # fmt: skip
    idle_after(running, sweep.run, sweep.stop, RUN, explore.opened.change)
    explore.opened.change(empty_sweep, None, [sweep.table, sweep.charts], **INSTANT)
    sweep.draw.click(
        plain_errors(of_video(sweeper.charts)), [explore.visit, dark],
        [sweep.charts, sweep.surface, sweep.frames], inputs_kwargs=controls.settings, show_progress_on=sweep.draw,
        **MODEL,
    )  # fmt: skip
    main_question.change(lambda text: text, main_question, sweep.question, queue=False, show_progress="hidden",
                         api_visibility="private")  # fmt: skip
