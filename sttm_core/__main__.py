"""`python -m sttm_core ask clip.mp4 "What code is shown?"`: answers from all tokens and from the merged ones."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from . import command_line as options
from .command_line import Progress, prepare, quiet_stdout, run

if TYPE_CHECKING:
    from .comparison import Comparison
    from .engine import Answer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Question = Annotated[str, typer.Argument(help="What to ask about it.", show_default=False)]
PositionRule = Annotated[
    Literal["reassigned", "survived", "merged"] | None,
    typer.Option(
        help="Rotary positions after merging.", rich_help_panel=options.MERGING, show_default="the model family's"
    ),
]
Baseline = Annotated[bool, typer.Option(help="Also answer from all tokens.")]
Runs = Annotated[int, typer.Option(min=1, help="Timed runs after a warm-up; medians are shown.")]
MaxNewTokens = Annotated[
    int | None, typer.Option(min=1, help="Longest answer in tokens.", show_default="the model's own, or 128")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback()
def commands() -> None:
    """Spatio-temporal token merging for video language models. Progress and errors go to stderr."""


@app.command()
@options.grouped
def ask(
    video: options.Video,
    question: Question,
    num_frames: options.NumFrames = None,
    baseline: Baseline = True,
    runs: Runs = 3,
    max_new_tokens: MaxNewTokens = None,
    json_output: Json = False,
    *,
    merging: options.Merging,
    position_rule: PositionRule = None,
    loading: options.Loading,
) -> None:
    """Ask one question and compare: both answers, their TTFTs by stage, retention, tokens, memory."""
    if not question.strip():
        raise ValueError("The question is empty; give something to ask about the video.")
    with quiet_stdout(), Progress() as progress:
        clip, llm, settings = prepare(progress, video, num_frames, merging, loading, position_rule=position_rule)
        from .comparison import compare

        limits = {"baseline": baseline, "runs": runs, "max_new_tokens": max_new_tokens}
        result = compare(llm, clip, question, settings, progress=progress.working, **limits)
    if result.budget_missed:
        print(result.budget_missed, file=sys.stderr)
    if json_output:
        print(json.dumps(result.as_dict(), indent=2, allow_nan=False))
    else:
        show(result, Console(highlight=False))


def show(result: Comparison, console: Console) -> None:
    """A comparison as text for people: one line on what was merged, one table with a column for each answer."""
    plan = result.plan
    console.print(
        f"[bold]{plan.retention:.1%} kept[/bold]: {plan.num_tokens} of {plan.num_patches} video tokens", end=""
    )
    console.print(f", {plan.num_chains} chains, longest {plan.longest_chain} of {plan.num_frames} steps")
    rules = {"paper": "paper rules", "as_released": "rules as released"}[plan.rules]
    console.print(
        f"τ_S {plan.tau_spatial:.4g}, τ_T {plan.tau_temporal:.4g}, {rules}; model {escape(result.model)}", style="dim"
    )
    columns = [column for column in (result.baseline, result.merged) if column is not None]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for title in ("All tokens", "Merged")[-len(columns) :]:
        table.add_column(title, overflow="fold")
    table.add_row("answer", *(Text(column.text or "-") for column in columns), style="bold")
    for name, *cells in rows(columns, result.runs):
        table.add_row(name, *cells)
    console.print(table)
    if result.speedup is not None:
        same = "the same answer" if result.same_answer else "another answer"
        console.print(f"TTFT {result.speedup:.2f} times as fast, {same}")


def rows(columns: list[Answer], runs: int) -> list[list[str]]:
    """The table below the answers: measured seconds by stage, then sizes."""
    stages = [field.name for field in fields(columns[0].timings)]
    ttft = f"TTFT, median of {runs}" if runs > 1 else "TTFT, one run"
    return [
        [ttft, *(duration(column.ttft) for column in columns)],
        *(
            ["  " + stage.replace("_", " "), *(duration(getattr(column.timings, stage)) for column in columns)]
            for stage in stages
        ),
        ["prompt tokens", *(str(column.prompt_tokens) for column in columns)],
        ["new tokens", *(str(column.new_tokens) for column in columns)],
        ["KV cache", *(megabytes(column.kv_bytes) for column in columns)],
        ["peak memory", *(megabytes(column.peak_bytes) for column in columns)],
    ]


def duration(seconds: float) -> str:
    """``1.36 s``, ``43 ms``, ``0.8 ms``."""
    if seconds >= 0.9995:
        return f"{seconds:.2f} s"
    milliseconds = seconds * 1e3
    return f"{milliseconds:.0f} ms" if milliseconds >= 9.95 or not milliseconds else f"{milliseconds:.1f} ms"


def megabytes(count: int | None) -> str:
    """``78.2 MB``; a dash where it could not be measured."""
    return "-" if count is None else f"{count / 1e6:,.1f} MB"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(app, (sys.argv[1:] if arguments is None else arguments) or ["--help"])


if __name__ == "__main__":
    sys.exit(main())
