"""`python -m sttm_core ask clip.mp4 "What code is shown?"`: answers from all tokens and from the merged ones."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from . import command_line as options
from .command_line import Progress, load_model, prepare, quiet_stdout, run
from .limits import check_question, context_length

if TYPE_CHECKING:
    from .comparison import Comparison
    from .engine import Answer, VideoLLM
    from .estimate import Estimate
    from .method import Plan
    from .video import VideoClip

LIMITS = {"baseline": True, "runs": 3, "max_new_tokens": None}  # of `ask`, where no option says otherwise
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

AskedVideo = Annotated[str | None, typer.Argument(help="Video file.", show_default=False)]
Question = Annotated[str | None, typer.Argument(help="What to ask about it.", show_default=False)]
From = Annotated[
    str | None,
    typer.Option("--from", help="Repeat a run exactly: the file with what --json printed or the page saved as runs."),
]
RunNumber = Annotated[int | None, typer.Option("--run", min=1, help="Which run of --from, where it holds several.")]
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
NumFrames = Annotated[int, typer.Option(min=1, help="Frames of the video.")]
FrameSide = Annotated[int, typer.Option(min=1, help="Of a frame in pixels; matters to Qwen-VL only.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON alone.")]


@app.callback()
def commands() -> None:
    """Spatio-temporal token merging for video language models. Progress and errors go to stderr."""


@app.command()
@options.grouped
def ask(
    video: AskedVideo = None,
    question: Question = None,
    num_frames: options.NumFrames = None,
    baseline: Baseline = True,
    runs: Runs = 3,
    max_new_tokens: MaxNewTokens = None,
    json_output: Json = False,
    from_file: From = None,
    run_number: RunNumber = None,
    *,
    merging: options.Merging,
    position_rule: PositionRule = None,
    loading: options.Loading,
) -> None:
    """Ask one question and compare: both answers, their TTFTs by stage, retention, tokens, memory."""
    limits = {"baseline": baseline, "runs": runs, "max_new_tokens": max_new_tokens}
    if from_file is not None:
        if question is not None or num_frames is not None or position_rule is not None or merging != options.Merging():
            raise ValueError("--from brings its own question, frames and settings; give at most the video beside it.")
        ask_again(from_file, run_number, video, loading, limits, json_output)
        return
    if video is None or question is None:
        missing = "VIDEO" if video is None else "QUESTION"
        raise ValueError(f"Missing argument {missing!r}.")
    check_question(question)  # before a video is read or a model loaded
    with quiet_stdout(), Progress() as progress:
        loading = with_rope(loading, merging.preset)
        clip, llm, settings = prepare(progress, video, num_frames, merging, loading, position_rule=position_rule)
        from .comparison import compare

        result = compare(llm, clip, question, settings, progress=progress.working, **limits)
    tell(result, llm, clip, {"video": video, "loading": asdict(loading), "limits": limits}, json_output)


def ask_again(
    source: str, number: int | None, video: str | None, loading: options.Loading, limits: dict, json_output: bool
) -> None:
    """Repeat a recorded run; options that were not given are as then."""
    from .comparison import compare
    from .repeat import read_run

    run = read_run(source, number)
    given = {name: value for name, value in limits.items() if value != LIMITS[name]}
    limits = LIMITS | run.limits | given
    loading = run.loading(loading)
    with quiet_stdout(), Progress() as progress:
        progress.checking("reading the video")
        clip = run.open(video)
        progress.checking("loading the model")
        llm = load_model(loading)
        run.check_model(llm)
        result = compare(llm, clip, run.question, run.settings, progress=progress.working, **limits)
    print(run.differences(result), file=sys.stderr)
    typed = {"video": video or str(clip.path), "loading": asdict(loading), "limits": limits}
    tell(result, llm, clip, typed, json_output)


def with_rope(loading: options.Loading, preset: str | None) -> options.Loading:
    """The scaling that a published setting asks for, where no option does."""
    found = options.published(preset, loading.model)
    return replace(loading, rope_factor=loading.rope_factor or (found.rope_factor if found else None))


def tell(result: Comparison, llm: VideoLLM, clip: VideoClip, typed: dict, json_output: bool) -> None:
    """The result on stdout, as a table or as one JSON object with all that it takes to repeat the run."""
    for note in filter(None, (result.budget_missed, result.idle_note)):
        print(note, file=sys.stderr)
    if not json_output:
        show(result, Console(highlight=False))
        return
    from .provenance import run_truth

    said = result.as_dict() | run_truth(llm, clip, result.question) | {"typed": typed}
    print(json.dumps(said, indent=2, allow_nan=False))


@app.command()
def methods(json_output: Json = False) -> None:
    """Every method that `--method` takes: where it acts, whether the question decides, its knobs with defaults."""
    from .methods import METHODS, about

    found = [about(method) for method in METHODS.values()]
    if json_output:
        print(json.dumps(found, indent=2, allow_nan=False))
        return
    console = Console(highlight=False)
    for method in found:
        decides = "the question decides" if method["query_aware"] else "any question"
        console.print(f"[bold]{method['name']}[/bold]  {method['title']}", soft_wrap=True)
        console.print(f"    {method['paper']}; acts on {method['acts_on']}; {decides}", style="dim", soft_wrap=True)
        knobs = ", ".join(f"{knob}={'none' if value is None else value}" for knob, value in method["knobs"].items())
        console.print(Text(f"    {knobs}"), soft_wrap=True)


@app.command()
@options.grouped
def estimate(
    num_frames: NumFrames = 128,
    height: FrameSide = 720,
    width: FrameSide = 1280,
    retention: Annotated[float, typer.Option(help="Share of tokens left after merging.")] = 0.3,
    merge_layer: Annotated[int | None, typer.Option(show_default="the model family's")] = None,
    gpus: Annotated[int, typer.Option(min=1, help="Devices over which --device-map auto spreads the model.")] = 1,
    *,
    loading: options.Loading,
) -> None:
    """Memory that a model and a video need, from its config alone: nothing is run, no weights are read."""
    from .estimate import estimate_memory
    from .loading import load_outline, weight_bytes

    if not 0 < retention <= 1:
        raise ValueError(f"retention must be above 0 and at most 1, got {retention}.")
    with quiet_stdout(), Progress() as progress:
        progress.checking("reading the config")
        outline = {name: getattr(loading, name) for name in ("device", "dtype", "newline", "rope_factor")}
        model, processor, family, dtype = load_outline(loading.model, **outline)
    layer = family.default_merge_layer(model) if merge_layer is None else merge_layer
    family.check_merge_layer(model, layer)
    frame_tokens = family.check_frame_tokens(loading.frame_tokens)
    grid = family.grid(model, processor, num_frames, (height, width), frame_tokens)
    bits = 4 if loading.load_in_4bit else 8 if loading.load_in_8bit else None
    text, all_tokens = model.config.get_text_config(), grid[0] * grid[1] * grid[2]
    kept = max(1, round(retention * all_tokens))
    found = [estimate_memory(text, grid, tokens, layer, dtype) for tokens in (all_tokens, kept)]
    room = replace(found[0], positions=family.fewest_positions(grid), context=context_length(text))
    if room.warning:
        print(room.warning, file=sys.stderr)
    title = f"{retention:.0%} kept, merged before layer {layer}"
    Console(highlight=False).print(memory_table(title, found, weight_bytes(model, dtype, bits), gpus))


def memory_table(title: str, found: list[Estimate], weights: int, gpus: int) -> Table:
    """A column for all tokens and one for the merged ones; bytes of one device where the layers are spread evenly."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "All tokens", title):
        table.add_column(name)
    table.add_row("video tokens", *(str(one.kept_tokens) for one in found))
    table.add_row("weights", *[gigabytes(weights)] * len(found))
    table.add_row("KV cache", *(gigabytes(one.kv_bytes) for one in found))
    table.add_row("a layer's activations", *(gigabytes(one.working_bytes) for one in found))
    table.add_row("all of it", *(gigabytes(weights + one.needed_bytes) for one in found), style="bold")
    if gpus > 1:
        each = (gigabytes((weights + one.kv_bytes) / gpus + one.working_bytes) for one in found)
        table.add_row(f"each of {gpus} GPUs", *each, style="bold")
    return table


def show(result: Comparison, console: Console) -> None:
    """A comparison as text for people: one line on what was merged, one table with a column for each answer."""
    plan = result.plan
    console.print(
        f"[bold]{plan.retention:.1%} kept[/bold]: {plan.num_tokens} of {plan.num_patches} video tokens", end=""
    )
    from .comparison import knobs_used

    console.print(words_about(plan))
    knobs = ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                      for name, value in knobs_used(plan.method).items())  # fmt: skip
    console.print(f"{plan.method.title}: {knobs}; model {escape(result.model)}", style="dim")
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


def words_about(plan: Plan) -> str:
    """What became of the other tokens, in a few words."""
    if chains := plan.details.get("chains"):
        return f", {chains['count']} chains, longest {chains['longest']} of {plan.num_frames} steps"
    return f", {plan.num_dropped} patches dropped" if plan.num_dropped else ""


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


def gigabytes(count: float) -> str:
    """``146.3 GB``, ``0.02 GB``: 10^9 bytes."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e9:.2f} GB"


def megabytes(count: int | None) -> str:
    """``78.2 MB``; a dash where it could not be measured."""
    return "-" if count is None else f"{count / 1e6:,.1f} MB"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(app, (sys.argv[1:] if arguments is None else arguments) or ["--help"])


if __name__ == "__main__":
    sys.exit(main())
