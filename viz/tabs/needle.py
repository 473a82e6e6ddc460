"""Does what matters survive? Every sample question with a known answer, from all tokens and from the merged ones."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from sttm_core.scoring import is_right

from ..studio import Studio
from .busy import busy_from, idle_after
from .controls import Controls, settings_from
from .errors import plain_errors
from .explore import MODEL
from .sweep import tokens_in_box

TABLE = ("clip", "question", "truth", "all tokens", "merged", "kept", "needle left")
WIDTHS = ("15%", "27%", "12%", "14%", "14%", "8%", "10%")
RUN = "Check the needles"


@dataclass(frozen=True)
class Needle:
    """Components of the tab."""

    run: gr.Button
    stop: gr.Button
    score: gr.Markdown
    table: gr.Dataframe


class NeedleCheck:
    """The handler."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def run(self, new_tokens: int, *, progress=gr.Progress(), **values):
        """Both answers to every question whose truth is known, at the present settings; grows row by row."""
        settings = settings_from(values)
        asked = [(s, q) for s in self.studio.samples.values() for q in s.questions if q.answer is not None]
        rows, right = [], [0, 0]
        for done, (sample, question) in enumerate(asked):
            progress(done / len(asked), desc=sample.title)
            ref = self.studio.open_sample(sample.id)
            *_, columns = self.studio.ask(ref, question.text, settings, int(new_tokens))
            texts = [column.answer.text if column.answer else column.error for column in columns]
            marks = [is_right(text, question.answer) for text in texts]
            right = [count + mark for count, mark in zip(right, marks, strict=True)]
            plan = columns[1].plan
            rows.append([
                sample.title, question.text, question.answer,
                *(f"{'✓' if mark else '✗'} {text}" for mark, text in zip(marks, texts, strict=True)),
                f"{plan.retention:.1%}" if plan else "", self._left(ref, question, columns),
            ])  # fmt: skip
            yield _score(right, len(rows)), rows

    def _left(self, ref, question, columns) -> str:
        encoded = next((column.prefix.encoded for column in columns if column.prefix), None)
        if question.needle is None or encoded is None:
            return ""
        found, plan = self.studio.needles_of(ref, encoded, question.text), columns[1].plan
        return f"{tokens_in_box(found[0], plan)} of {tokens_in_box(found[0], None)}" if found else "not in these frames"


def build_needle() -> Needle:
    """The tab's components."""
    gr.Markdown(
        "Every question about the sample clips whose answer is known, asked of all tokens and of the merged ones at "
        "the thresholds (or the budget) on the left, whichever video is open. Needle left: tokens that hold a patch of "
        "what is asked about."
    )
    with gr.Row():
        run = gr.Button(RUN, variant="primary", scale=0, min_width=200, elem_id="needle-run")
        stop = gr.Button("Stop", scale=0, min_width=70, interactive=False)
    score = gr.Markdown(elem_id="needle-score")
    table = gr.Dataframe(
        headers=list(TABLE), value=[], interactive=False, show_label=False, wrap=True, elem_id="needles",
        column_widths=list(WIDTHS),
    )  # fmt: skip
    return Needle(run, stop, score, table)


def wire_needle(studio: Studio, controls: Controls, needle: Needle) -> None:
    """Connect the tab."""
    busy_from([needle.run.click], needle.run, needle.stop, "Checking…")
    running = needle.run.click(
        plain_errors(NeedleCheck(studio).run), controls.new_tokens, [needle.score, needle.table],
        inputs_kwargs=controls.settings, show_progress_on=needle.score, **MODEL,
    )  # fmt: skip
    idle_after(running, needle.run, needle.stop, RUN)


def _score(right: list[int], asked: int) -> str:
    return f"**All tokens: {right[0]} of {asked} right. Merged: {right[1]} of {asked} right.**"
