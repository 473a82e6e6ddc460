"""Asking: two streamed answers side by side, where their time went, and the history of the visit."""

from __future__ import annotations

import csv
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import gradio as gr

from sttm_core.comparison import answer_dict

from ..cards import answer_card, empty_cards
from ..charts import ttft_bars
from ..labels import duration
from ..studio import Column, Studio, VideoRef
from .controls import Controls, settings_from
from .errors import plain_errors
from .explore import MODEL, Explore

HISTORY = (
    "video", "frames", "kept", "τ_S", "τ_T", "rules", "question", "all tokens", "merged",
    "TTFT all", "TTFT merged", "ratio",
)  # fmt: skip
WIDTHS = ("130px", "70px", "70px", "70px", "70px", "90px", "180px", "120px", "120px", "90px", "110px", "70px")


@dataclass(frozen=True)
class Compare:
    """Components of the lower half."""

    question: gr.Textbox
    ask: gr.Button
    stop: gr.Button
    left: gr.HTML
    right: gr.HTML
    chart: gr.Plot
    log: gr.Accordion
    history: gr.Dataframe
    runs: gr.State
    csv: gr.DownloadButton
    json: gr.DownloadButton


class Comparer:
    """The handlers of the lower half."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def ask(self, ref, question, runs, new_tokens, dark, history, *values, progress=gr.Progress()):
        """Stream both answers, then repeat the timed part; the history grows by one row."""
        if ref is None:
            raise gr.Error("There is no video yet; choose a sample or upload one.", print_exception=False)
        settings = settings_from(*values)
        truth = self.studio.samples[ref.sample_id].truth(question) if ref.sample_id else None
        skip = (gr.skip(),) * 6
        columns = None
        for columns in self.studio.ask(ref, question, settings, int(new_tokens)):
            yield (*_cards(columns, truth, "reading the video"), *skip)
        yield (*_cards(columns, truth), *self._figures(columns, dark), *(gr.skip(),) * 5)
        if int(runs) > 1:
            for _ in self.studio.measure(columns, question, settings, int(runs)):
                yield (*_cards(columns, truth), *self._figures(columns, dark), *(gr.skip(),) * 5)
        history = [*history, run_record(ref, question, settings, columns)] if columns[1].answer else history
        yield (*_cards(columns, truth), *self._figures(columns, dark), *history_updates(history))

    def _figures(self, columns: tuple[Column, Column], dark: bool):
        timings = [column.timings for column in columns]
        if not all(timings):
            return (gr.skip(),)
        return (gr.Plot(value=ttft_bars(*(t.as_dict() for t in timings), dark=bool(dark)), visible=True),)


def build_compare() -> Compare:
    """The lower half of the page."""
    with gr.Row(elem_id="ask-row"):
        question = gr.Textbox(
            placeholder="What code is shown?",
            show_label=False,
            container=False,
            scale=8,
            elem_id="question",
            max_lines=3,
        )
        ask = gr.Button("Ask", variant="primary", scale=1, min_width=90, elem_id="ask")
        stop = gr.Button("Stop", scale=0, min_width=70, elem_id="stop")
    left_html, right_html = empty_cards()
    with gr.Row(elem_id="answers", equal_height=True):
        left = gr.HTML(left_html, elem_id="answer-baseline", min_width=300)
        right = gr.HTML(right_html, elem_id="answer-merged", min_width=300)
    chart = gr.Plot(visible=False, show_label=False, elem_id="ttft-chart")
    with gr.Accordion("Runs of this visit", open=True, elem_id="history", visible=False) as log:
        history = gr.Dataframe(
            headers=list(HISTORY), value=[], interactive=False, show_label=False, column_widths=list(WIDTHS)
        )  # fmt: skip
        with gr.Row():
            csv_file = gr.DownloadButton("CSV", size="sm", interactive=False, elem_id="history-csv")
            json_file = gr.DownloadButton("JSON", size="sm", interactive=False, elem_id="history-json")
    return Compare(question, ask, stop, left, right, chart, log, history, gr.State([]), csv_file, json_file)


def wire_compare(studio: Studio, controls: Controls, explore: Explore, compare: Compare, dark, opened: list) -> None:
    """Connect the question box, the suggestions and the columns."""
    comparer, c = Comparer(studio), compare
    inputs = [explore.ref, c.question, controls.runs, controls.new_tokens, dark, c.runs, *controls.settings]
    outputs = [c.left, c.right, c.chart, c.log, c.history, c.runs, c.csv, c.json]
    asked = gr.on(
        [c.ask.click, c.question.submit], plain_errors(comparer.ask), inputs, outputs, show_progress="minimal",
        show_progress_on=c.left, trigger_mode="once", **MODEL,
    )  # fmt: skip
    c.stop.click(None, cancels=[asked], queue=False, api_visibility="private")
    explore.suggestions.click(
        lambda row: row[0], explore.suggestions, c.question, queue=False, api_visibility="private"
    )
    for event in opened:
        event.success(lambda: (*empty_cards(), gr.Plot(visible=False)), None, [c.left, c.right, c.chart],
                      queue=False, show_progress="hidden", api_visibility="private")  # fmt: skip


def run_record(ref: VideoRef, question: str, settings, columns: tuple[Column, Column]) -> dict:
    """One run of the visit, JSON-ready: settings, retention, both answers with timings."""
    baseline, merged = columns
    plan = merged.plan
    used = asdict(settings) | {"tau_spatial": plan.tau_spatial, "tau_temporal": plan.tau_temporal}
    return {
        "video": ref.name,
        "frames": ref.num_frames,
        "question": question,
        "settings": used,
        "retention": plan.retention,
        "tokens": {"all": plan.num_patches, "kept": plan.num_tokens},
        "baseline": _column_record(baseline),
        "merged": _column_record(merged),
    }


def history_updates(history: list[dict]) -> tuple:
    """The log's visibility, its table, the state and the two files."""
    rows = [history_row(run) for run in reversed(history)]
    folder = Path(tempfile.mkdtemp(prefix="sttm-runs-"))
    (folder / "runs.json").write_text(json.dumps(history, indent=1, ensure_ascii=False), encoding="utf-8")
    with (folder / "runs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HISTORY)
        writer.writerows(rows)
    return (
        gr.Accordion(visible=bool(rows)),
        gr.Dataframe(value=rows),
        history,
        gr.DownloadButton(value=str(folder / "runs.csv"), interactive=bool(rows)),
        gr.DownloadButton(value=str(folder / "runs.json"), interactive=bool(rows)),
    )


def history_row(run: dict) -> list:
    """One line of the table, in the order of `HISTORY`."""
    left, right = run["baseline"], run["merged"]
    ratio = f"{left['ttft_s'] / right['ttft_s']:.2f}×" if left and right else ""
    return [
        run["video"], run["frames"], f"{run['retention']:.1%}", f"{run['settings']['tau_spatial']:.4g}",
        f"{run['settings']['tau_temporal']:.4g}", run["settings"]["rules"], run["question"],
        left["text"] if left else "", right["text"] if right else "",
        duration(left["ttft_s"]) if left else "", duration(right["ttft_s"]) if right else "", ratio,
    ]  # fmt: skip


def _column_record(column: Column) -> dict | None:
    if column.answer is None:
        return None
    record = answer_dict(column.answer)
    timings = column.timings
    return record | {"ttft_s": timings.ttft, "timings_s": timings.as_dict(), "runs": max(1, len(column.runs))}


def _cards(columns: tuple[Column, Column], truth: str | None, busy: str = "") -> tuple[str, str]:
    left, right = columns
    return answer_card(left, right, truth=truth, busy=busy), answer_card(right, left, truth=truth)
