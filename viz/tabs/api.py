"""The same actions as named endpoints for `gradio_client`: samples, inspect, plan, ask."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr
from gradio.components.api_component import Api

from sttm_core.comparison import Comparison, settings_used
from sttm_core.settings import RunSettings

from ..plan_files import plan_dict
from ..studio import Studio, VideoRef
from .arguments import arguments, check
from .errors import plain_errors
from .explore import MODEL

DEFAULT_FRAMES = 16
TAKES = {
    "inspect": ("sample", "num_frames", "tau_spatial", "tau_temporal", "rules", "merge_layer"),
    "plan": ("sample", "num_frames", "tau_spatial", "tau_temporal", "retention", "rules", "merge_layer", "prefer"),
    "ask": (
        "sample", "question", "num_frames", "tau_spatial", "tau_temporal", "retention", "rules", "merge_layer", "runs",
        "prefer",
    ),
}  # arguments of each endpoint after the video, in the order of its method  # fmt: skip
PUBLIC = MODEL | {"api_visibility": "public"}


class Endpoints:
    """What other programs call. A video is a file, or the id of a sample."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.arguments = arguments(studio.llm, studio.max_frames)

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
        settings = self._settings(rules, merge_layer, tau_spatial=tau_spatial, tau_temporal=tau_temporal)
        return self.studio.inspector_data(self._open(video, sample, num_frames), settings).payload()

    def plan(
        self, video=None, sample="", num_frames=16, tau_spatial=None, tau_temporal=None, retention=None, rules="paper",
        merge_layer=None, prefer=None,
    ) -> dict:  # fmt: skip
        """What is merged: retention, thresholds used, tokens a frame, boxes and patch counts."""
        settings = self._settings(
            rules, merge_layer, prefer, tau_spatial=tau_spatial, tau_temporal=tau_temporal, retention=retention
        )
        _, plan = self.studio.planned(self._open(video, sample, num_frames), settings)
        return plan_dict(plan)

    def ask(
        self, video=None, sample="", question="", num_frames=16, tau_spatial=None, tau_temporal=None, retention=None,
        rules="paper", merge_layer=None, runs=1, prefer=None,
    ) -> dict:  # fmt: skip
        """Both answers with TTFT by stage; the same object that the command line prints with ``--json``."""
        check(self.arguments, question=question, runs=runs)
        settings = self._settings(
            rules, merge_layer, prefer, tau_spatial=tau_spatial, tau_temporal=tau_temporal, retention=retention
        )
        question, runs = question or "", int(runs or 1)
        ref = self._open(video, sample, num_frames)
        *_, columns = self.studio.ask(ref, question, settings)
        if runs > 1:
            for _ in self.studio.measure(columns, question, settings, runs):
                pass
        return self._result(ref, question, settings, columns)

    def _result(self, ref: VideoRef, question: str, settings: RunSettings, columns) -> dict:
        failed = next((column.error for column in columns if column.error), "")
        if columns[1].answer is None:
            raise ValueError(failed)
        baseline, merged = (column.answer and replace(column.answer, timings=column.timings) for column in columns)
        llm = self.studio.llm
        used, plan, runs = settings_used(llm, settings), columns[1].plan, max(1, len(columns[1].runs))
        result = Comparison(ref.name, ref.num_frames, llm.name, question, used, plan, baseline, merged, runs).as_dict()
        return result | ({"error": failed} if failed else {})

    def _settings(self, rules="paper", merge_layer=None, prefer=None, **numbers) -> RunSettings:
        """What was given, and what a visit begins with for the rest."""
        check(self.arguments, rules=rules, merge_layer=merge_layer, prefer=prefer, **numbers)
        given = {name: float(value) for name, value in numbers.items() if value is not None}
        layer = None if merge_layer is None else int(merge_layer)
        start = self.studio.start
        own = start.method
        return start.but(**given, rules=rules or own.rules, merge_layer=layer, prefer=prefer or own.prefer)

    def _open(self, video: str | None, sample: str, num_frames) -> VideoRef:
        check(self.arguments, sample=sample, num_frames=num_frames)
        if num_frames is None:
            raise ValueError(f"The argument num_frames must be {self.arguments['num_frames'].allowed}.")
        if video:
            return self.studio.open(video, int(num_frames))
        if sample:
            return self.studio.open_sample(sample, int(num_frames))
        raise ValueError("Give a video file or the id of a sample.")


def build_api(studio: Studio) -> None:
    """Invisible components and public endpoints.

    Gradio takes defaults from a component's value, and None only from a handler's own default. Its own number field
    would refuse what is no number before we can say which argument it was: `Api` hands on what came.
    """
    ends, advice = Endpoints(studio), studio.defaults
    values = {
        "num_frames": min(DEFAULT_FRAMES, studio.max_frames), "rules": "paper", "prefer": advice.prefer, "sample": "",
        "tau_spatial": advice.tau_spatial, "tau_temporal": advice.tau_temporal, "runs": 1,
        "merge_layer": studio.llm.default_merge_layer,
    }  # fmt: skip
    with gr.Row(visible=False):
        video = gr.File(label="video", file_types=["video"])
        given = {name: Api(values.get(name), kind.schema, name) for name, kind in ends.arguments.items()}
        out = gr.JSON(label="result")
        trigger = gr.Button()
    trigger.click(ends.samples, None, out, api_name="samples", api_visibility="public", queue=False)
    for name, names in TAKES.items():
        inputs = [video, *(given[argument] for argument in names)]
        trigger.click(plain_errors(getattr(ends, name)), inputs, out, api_name=name, **PUBLIC)


def by_name_only_what_is_documented(app: gr.Blocks) -> None:
    """Take their names from the page's own handlers: the page calls them by number, and nobody else has to.

    Gradio hides a private function from the documentation only and runs it for whoever posts its Python name.
    """
    for function in app.fns.values():
        if function.api_visibility != "public":
            function.api_name = False
