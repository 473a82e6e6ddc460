"""The same actions as named endpoints for `gradio_client`: samples, inspect, plan, ask."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr

from sttm_core.comparison import Comparison, MergeSettings, settings_used

from ..exports import plan_dict
from ..studio import Studio, VideoRef
from .errors import plain_errors
from .explore import MODEL

MOST_RUNS = 20
PUBLIC = MODEL | {"api_visibility": "public"}


class Endpoints:
    """What other programs call. A video is a file, or the id of a sample."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def samples(self) -> list[dict]:
        """Ids, titles and suggested questions of the shipped clips."""
        return [
            {"id": s.id, "title": s.title, "description": s.description, "questions": [q.text for q in s.questions]}
            for s in self.studio.samples.values()
        ]

    def inspect(
        self, video=None, sample="", num_frames=16, tau_spatial=None, tau_temporal=None, rules="paper", merge_layer=None
    ) -> dict:
        """The inspector's data as JSON: geometry, cosine tables (float32, base64) and pictures."""
        settings = self._settings(tau_spatial, tau_temporal, None, rules, merge_layer)
        return self.studio.inspector_data(self._open(video, sample, num_frames), settings).payload()

    def plan(
        self, video=None, sample="", num_frames=16, tau_spatial=None, tau_temporal=None, retention=None, rules="paper",
        merge_layer=None, prefer=None,
    ) -> dict:  # fmt: skip
        """What is merged: retention, thresholds used, tokens a frame, boxes and patch counts."""
        settings = self._settings(tau_spatial, tau_temporal, retention, rules, merge_layer, prefer)
        plan = settings.plan(self.studio.encoded(self._open(video, sample, num_frames), settings))
        return plan_dict(plan)

    def ask(
        self, video=None, sample="", question="", num_frames=16, tau_spatial=None, tau_temporal=None, retention=None,
        rules="paper", merge_layer=None, runs=1, prefer=None,
    ) -> dict:  # fmt: skip
        """Both answers with TTFT by stage; the same object that the command line prints with ``--json``."""
        if not 1 <= runs <= MOST_RUNS:
            raise ValueError(f"The number of timed runs must lie between 1 and {MOST_RUNS}, got {runs}.")
        settings = self._settings(tau_spatial, tau_temporal, retention, rules, merge_layer, prefer)
        ref = self._open(video, sample, num_frames)
        *_, columns = self.studio.ask(ref, question, settings)
        if int(runs) > 1:
            *_, columns = self.studio.measure(columns, question, settings, int(runs))
        return self._result(ref, question, settings, columns, int(runs))

    def _result(self, ref: VideoRef, question: str, settings: MergeSettings, columns, runs: int) -> dict:
        failed = next((column.error for column in columns if column.error), "")
        if columns[1].answer is None:
            raise ValueError(failed)
        baseline, merged = (column.answer and replace(column.answer, timings=column.timings) for column in columns)
        llm = self.studio.llm
        used, plan = settings_used(llm, settings), columns[1].plan
        result = Comparison(ref.name, ref.num_frames, llm.name, question, used, plan, baseline, merged, runs).as_dict()
        return result | ({"error": failed} if failed else {})

    def _settings(self, tau_spatial, tau_temporal, retention, rules, merge_layer, prefer=None) -> MergeSettings:
        """What was given, and what a visit begins with for the rest."""
        numbers = {"tau_spatial": tau_spatial, "tau_temporal": tau_temporal, "retention": retention}
        given = {name: float(value) for name, value in numbers.items() if value is not None}
        layer = None if merge_layer is None else int(merge_layer)
        start = self.studio.start
        return replace(start, **given, rules=rules, merge_layer=layer, prefer=prefer or start.prefer)

    def _open(self, video: str | None, sample: str, num_frames) -> VideoRef:
        if video:
            return self.studio.open(video, int(num_frames))
        if sample:
            return self.studio.open_sample(sample, int(num_frames))
        raise ValueError("Give a video file or the id of a sample.")


def build_api(studio: Studio) -> None:
    """Invisible components and public endpoints.

    Gradio takes defaults from a component's value, and None only from a handler's own default.
    """
    ends = Endpoints(studio)
    with gr.Row(visible=False):
        video = gr.File(label="video", file_types=["video"])
        sample = gr.Textbox("", label="sample")
        question = gr.Textbox(label="question")
        frames = gr.Number(16, label="num_frames", precision=0)
        tau_s = gr.Number(studio.defaults.tau_spatial, label="tau_spatial")
        tau_t = gr.Number(studio.defaults.tau_temporal, label="tau_temporal")
        retention = gr.Number(None, label="retention")
        rules = gr.Textbox("paper", label="rules")
        layer = gr.Number(studio.llm.default_merge_layer, label="merge_layer", precision=0)
        runs = gr.Number(1, label="runs", precision=0)
        prefer = gr.Textbox(studio.defaults.prefer, label="prefer")
        out = gr.JSON(label="result")
        trigger = gr.Button()
    where = [video, sample]
    trigger.click(ends.samples, None, out, api_name="samples", api_visibility="public", queue=False)
    trigger.click(
        plain_errors(ends.inspect), [*where, frames, tau_s, tau_t, rules, layer], out, api_name="inspect", **PUBLIC
    )
    trigger.click(
        plain_errors(ends.plan), [*where, frames, tau_s, tau_t, retention, rules, layer, prefer], out,
        api_name="plan", **PUBLIC,
    )  # fmt: skip
    trigger.click(
        plain_errors(ends.ask), [*where, question, frames, tau_s, tau_t, retention, rules, layer, runs, prefer], out,
        api_name="ask", **PUBLIC,
    )  # fmt: skip
