"""The same actions as named endpoints for `gradio_client`: samples, inspect, plan, ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import Parameter, Signature

import gradio as gr
from gradio.components.api_component import Api

from sttm_core.budgets import KEPT
from sttm_core.comparison import Comparison, settings_used
from sttm_core.methods import Sttm
from sttm_core.settings import RunSettings, knobs_for

from ..inspector.recorded import plan_payload
from ..plan_files import plan_dict
from ..studio import Studio, VideoRef
from .arguments import arguments, check
from .errors import plain_errors
from .explore import MODEL

DEFAULT_FRAMES = 16
STTM = ("tau_spatial", "tau_temporal", "retention", "rules", "merge_layer", "prefer")
METHOD = ("method", "budget", "knobs")
TAKES = {
    "inspect": ("sample", "num_frames", "tau_spatial", "tau_temporal", "rules", "merge_layer", "retention", *METHOD,
                "question"),
    "plan": ("sample", "num_frames", *STTM, *METHOD, "question"),
    "ask": ("sample", "question", "num_frames", *STTM[:-1], "runs", "prefer", *METHOD),
}  # arguments of each endpoint after the video, handed to its method by name  # fmt: skip
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

    def inspect(self, video=None, sample="", num_frames=16, question="", **settings) -> dict:
        """The inspector's data as JSON: geometry, cosine tables (float32, base64), pictures; a method's plan."""
        wanted = self._settings(question=question, **settings)
        ref = self._open(video, sample, num_frames)
        if wanted.name == Sttm.name:
            return self.studio.inspector_data(ref, wanted.but(retention=None)).payload()
        plan = self.studio.plan(ref, wanted, question or "")
        data = self.studio.inspector_data(ref, self.studio.start)
        return data.with_settings(method=wanted.name, plan=plan_payload(plan)).payload()

    def plan(self, video=None, sample="", num_frames=16, question="", **settings) -> dict:
        """What is merged or dropped: retention, knobs used, tokens a frame, boxes and patch counts."""
        wanted = self._settings(question=question, **settings)
        _, plan = self.studio.planned(self._open(video, sample, num_frames), wanted, question or "")
        return plan_dict(plan)

    def ask(self, video=None, sample="", question="", num_frames=16, runs=1, **settings) -> dict:
        """Both answers with TTFT by stage; the same object that the command line prints with ``--json``."""
        check(self.arguments, runs=runs)
        wanted = self._settings(question=question, **settings)
        question, runs = question or "", int(runs or 1)
        ref = self._open(video, sample, num_frames)
        *_, columns = self.studio.ask(ref, question, wanted)
        if runs > 1:
            for _ in self.studio.measure(columns, question, wanted, runs):
                pass
        return self._result(ref, question, wanted, columns)

    def _result(self, ref: VideoRef, question: str, settings: RunSettings, columns) -> dict:
        failed = next((column.error for column in columns if column.error), "")
        if columns[1].answer is None:
            raise ValueError(failed)
        baseline, merged = (column.answer and replace(column.answer, timings=column.timings) for column in columns)
        llm = self.studio.llm
        used, plan, runs = settings_used(llm, settings), columns[1].plan, max(1, len(columns[1].runs))
        result = Comparison(ref.name, ref.num_frames, llm.name, question, used, plan, baseline, merged, runs).as_dict()
        return result | ({"error": failed} if failed else {})

    def _settings(self, question=None, method=None, knobs=None, **given) -> RunSettings:
        """What was given, by name, and what a visit begins with for the rest; a method takes what it has of it."""
        check(self.arguments, question=question, method=method, knobs=knobs, **given)
        given = {name: self.arguments[name].read(value) for name, value in given.items() if value is not None}
        method, start = method or Sttm.name, self.studio.start
        given = knobs_for(method, given) | (knobs or {})
        return start.but(**given) if method == Sttm.name else RunSettings.of(method, **given)

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
        "tau_spatial": advice.tau_spatial, "tau_temporal": advice.tau_temporal, "runs": 1, "method": Sttm.name,
        "budget": KEPT,
    }  # fmt: skip
    with gr.Row(visible=False):
        video = gr.File(label="video", file_types=["video"])
        given = {name: Api(values.get(name), kind.schema, name) for name, kind in ends.arguments.items()}
        out = gr.JSON(label="result")
        trigger = gr.Button()
    trigger.click(ends.samples, None, out, api_name="samples", api_visibility="public", queue=False)
    for name, names in TAKES.items():
        inputs = [video, *(given[argument] for argument in names)]
        trigger.click(plain_errors(by_name(getattr(ends, name), names)), inputs, out, api_name=name, **PUBLIC)


def by_name(endpoint: Callable, names: Sequence[str]) -> Callable:
    """An endpoint as a function of the video and these arguments, all of them optional, as Gradio documents it."""

    def call(*values):
        return endpoint(**dict(zip(("video", *names), values, strict=False)))

    optional = Parameter.POSITIONAL_OR_KEYWORD
    parameters = [Parameter(name, optional, default=None) for name in ("video", *names)]
    call.__signature__, call.__doc__ = Signature(parameters), endpoint.__doc__
    return call


def by_name_only_what_is_documented(app: gr.Blocks) -> None:
    """Take their names from the page's own handlers: the page calls them by number, and nobody else has to.

    Gradio hides a private function from the documentation only and runs it for whoever posts its Python name.
    """
    for function in app.fns.values():
        if function.api_visibility != "public":
            function.api_name = False
