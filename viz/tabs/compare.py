"""Asking: two streamed answers side by side, where their time went, and the history of the visit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import gradio as gr

from sttm_core.provenance import run_truth

from ..cards import answer_card, empty_cards, merged_title, working_cards
from ..charts import ttft_bars
from ..files import Files
from ..inspector.component import as_update
from ..inspector.recorded import plan_payload
from ..seen import seen_html, seen_rows
from ..studio import Column, Studio, VideoRef
from .busy import busy_from, idle_after
from .controls import Controls, settings_from
from .errors import plain_errors
from .explore import BROWSER_ONLY, INSTANT, MODEL, Explore
from .history import HISTORY, history_row, prefill_curve, run_record, write_history
from .save_svg import save_svg_js
from .visit import of_video

WIDTHS = (
    "175px", "90px", "115px", "115px", "85px", "70px", "75px", "75px", "90px", "120px", "75px", "130px", "70px", "95px",
)  # fmt: skip


@dataclass(frozen=True)
class Compare:
    """Components of the lower half."""

    question: gr.Textbox
    ask: gr.Button
    stop: gr.Button
    suggestions: gr.Dataset
    left: gr.HTML
    right: gr.HTML
    chart: gr.Plot
    chart_box: gr.Accordion
    log: gr.Accordion
    history: gr.Dataframe
    runs: gr.State
    csv: gr.DownloadButton
    json: gr.DownloadButton
    seen: gr.HTML
    seen_box: gr.Accordion


class Comparer:
    """The handlers of the lower half."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def answers(self, ref: VideoRef, question: str, runs, new_tokens, history: list[dict], **values) -> Iterator[tuple]:
        """Stream both answers, then repeat the timed part; at the end the history grows by one row.

        Yields both cards, the history, and the inspector's update with the prefill times measured so far.
        """
        settings, runs = settings_from(values), int(runs)
        self.studio.llm.check_prompt(question, ref.num_frames, ref.size, max_new_tokens=int(new_tokens))
        truth = self.studio.samples[ref.sample_id].truth(question) if ref.sample_id else None
        title = merged_title(settings.method)
        yield (*working_cards(f"encoding {ref.num_frames} frames", title), gr.skip(), gr.skip())
        for columns in self.studio.ask(ref, question, settings, int(new_tokens)):
            yield (*_cards(columns, truth), gr.skip(), gr.skip())
        if runs > 1:
            yield (*_cards(columns, truth, f"timing run 1 of {runs}"), gr.skip(), gr.skip())
            for done, _ in enumerate(self.studio.measure(columns, question, settings, runs), start=2):
                busy = f"timing run {done} of {runs}" if done <= runs else ""
                yield (*_cards(columns, truth, busy), gr.skip(), gr.skip())
        layer = self.studio.merge_layer(settings)
        if any(column.answer for column in columns) and columns[1].plan:
            clip = next(column.prefix.encoded.clip for column in columns if column.prefix)
            seen = run_truth(self.studio.llm, clip, question)
            history = [*history, run_record(ref, question, settings, columns, layer, seen, int(new_tokens))]
        yield (*_cards(columns, truth), history, _view_update(history, ref, layer, columns[1]))

    def another_video(self, ref: VideoRef, history: list[dict], **values):
        """Both cards empty again; what was measured on this video before is the inspector's prediction."""
        settings = settings_from(values)
        layer = self.studio.merge_layer(settings)
        cards = empty_cards(merged_title(settings.method))
        return (*cards, _curve_update(history, ref, layer), gr.Accordion(visible=False))


def chart_of(history: list[dict], dark: bool) -> tuple:
    """The last run's times as a chart that can be saved, where both columns have them."""
    last = history[-1] if history else None
    if not last or not last["baseline"] or not last["merged"]:
        return gr.Plot(value=None), gr.Accordion(visible=False)
    chart = ttft_bars(last["baseline"]["timings_s"], last["merged"]["timings_s"], dark=bool(dark))
    return gr.Plot(value=chart), gr.Accordion(visible=True)


def seen_of(history: list[dict]) -> tuple:
    """What the model saw in the last run, in words."""
    if not history:
        return gr.HTML(value=""), gr.Accordion(visible=False)
    return gr.HTML(value=seen_html(seen_rows(history[-1]))), gr.Accordion(visible=True)


def history_updates(files: Files, history: list[dict]) -> tuple:
    """The log's visibility, its table and the two files."""
    rows = [history_row(run) for run in reversed(history)]
    as_csv, as_json = write_history(history, files)
    return (
        gr.Accordion(visible=bool(rows)),
        gr.Dataframe(value=rows),
        gr.DownloadButton(value=as_csv, interactive=bool(rows)),
        gr.DownloadButton(value=as_json, interactive=bool(rows)),
    )


def build_compare(questions: list[list[str]]) -> Compare:
    """The lower half of the page; ``questions`` are those suggested for the first video."""
    with gr.Row(elem_id="ask-row"):
        question = gr.Textbox(
            placeholder="Ask about the video, e.g. What code is shown?", label="Question", show_label=False,
            container=False, scale=8, elem_id="question", max_lines=3, min_width=200,
        )  # fmt: skip
        ask = gr.Button("Ask", variant="primary", scale=0, min_width=96, elem_id="ask")
        stop = gr.Button("Stop", scale=0, min_width=70, elem_id="stop", interactive=False)
    suggestions = gr.Dataset(
        components=[gr.Textbox(visible=False)], samples=questions, show_label=False, layout="gallery",
        elem_id="suggestions", visible=bool(questions),
    )  # fmt: skip
    left_html, right_html = empty_cards()
    with gr.Row(elem_id="answers", equal_height=True):
        left = gr.HTML(left_html, elem_id="answer-baseline", min_width=280, padding=False)
        right = gr.HTML(right_html, elem_id="answer-merged", min_width=280, padding=False)
    with gr.Accordion("Runs of this visit", open=True, elem_id="history", visible=False) as log:
        history = gr.Dataframe(
            headers=list(HISTORY), value=[], interactive=False, show_label=False, column_widths=list(WIDTHS),
            max_height=280,
        )  # fmt: skip
        with gr.Row(elem_id="history-files"):
            csv_file = gr.DownloadButton("CSV", size="sm", interactive=False, elem_id="history-csv")
            json_file = gr.DownloadButton("JSON", size="sm", interactive=False, elem_id="history-json")
    with gr.Accordion("What the model saw in the last run", open=False, elem_id="seen", visible=False) as seen_box:
        seen = gr.HTML(padding=False)
    with gr.Accordion("Chart of the last run", open=False, elem_id="ttft", visible=False) as chart_box:
        chart = gr.Plot(show_label=False, elem_id="ttft-chart")
        svg = gr.Button("Save as SVG", size="sm", elem_id="ttft-svg")
        svg.click(js=save_svg_js("ttft-chart", "ttft"), **BROWSER_ONLY)
    runs = gr.State([])
    return Compare(
        question, ask, stop, suggestions, left, right, chart, chart_box, log, history, runs, csv_file, json_file, seen,
        seen_box,
    )


def wire_compare(
    studio: Studio, files: Files, controls: Controls, explore: Explore, compare: Compare, dark
) -> None:
    """Connect the question box, the suggestions and the columns."""
    comparer, c = Comparer(studio), compare
    asking = [c.ask.click, c.question.submit]
    busy_from(asking, c.ask, c.stop, "Asking…", c.question)
    gr.on(asking, inputs=c.question, outputs=[c.left, c.right], js=_asking_js(), **BROWSER_ONLY)
    asked = gr.on(
        asking, plain_errors(of_video(comparer.answers)),
        [explore.visit, c.question, controls.runs, controls.new_tokens, c.runs],
        [c.left, c.right, c.runs, explore.view], inputs_kwargs=controls.settings, show_progress="minimal",
        show_progress_on=[c.left, c.right], trigger_mode="once", **MODEL,
    )  # fmt: skip
    idle_after(asked, c.ask, c.stop, "Ask", explore.opened.change)
    c.stop.click(stopped_cards, None, [c.left, c.right], **INSTANT)
    c.runs.change(partial(history_updates, files), c.runs, [c.log, c.history, c.csv, c.json], **INSTANT)
    c.runs.change(seen_of, c.runs, [c.seen, c.seen_box], **INSTANT)
    c.runs.change(chart_of, [c.runs, dark], [c.chart, c.chart_box], **INSTANT)
    c.suggestions.click(lambda row: row[0], c.suggestions, c.question, **INSTANT)
    explore.opened.change(
        of_video(comparer.another_video), [explore.visit, c.runs],
        [c.left, c.right, explore.view, c.chart_box], inputs_kwargs=controls.settings, **INSTANT,
    )  # fmt: skip


def _asking_js() -> str:
    """At once, before the server knows: both cards wait and come into view."""
    cards = json.dumps(working_cards("waiting for its turn"))
    return f"""(question) => {{
      const same = {{__type__: "update"}};
      if (!question || !question.trim()) return [same, same];
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      document.querySelector("#answers")?.scrollIntoView({{block: "nearest", behavior: calm ? "auto" : "smooth"}});
      return {cards};
    }}"""


def stopped_cards() -> tuple[str, str]:
    """Both cards after Stop."""
    return working_cards("")


def _curve_update(history: list[dict], ref: VideoRef, layer: int) -> gr.HTML:
    return gr.HTML(settings=as_update({"curve": prefill_curve(history, ref, layer)}))


def _view_update(history: list[dict], ref: VideoRef, layer: int, column: Column) -> gr.HTML:
    """As `_curve_update`; a method that acts inside the model has a picture from now on."""
    plan = {"plan": plan_payload(column.plan)} if column.plan and column.reduces.acts_on != "tokens" else {}
    return gr.HTML(settings=as_update({"curve": prefill_curve(history, ref, layer), **plan}))


def _cards(columns: tuple[Column, Column], truth: str | None, busy: str = "") -> tuple[str, str]:
    left, right = columns
    return answer_card(left, right, truth=truth, busy=busy), answer_card(right, left, truth=truth, busy=busy)
