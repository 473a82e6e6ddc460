"""``python -m benchmarks.needle_table``: every method at every budget on the held-out needles, as one page.

Rows go to ``rows.jsonl`` clip by clip; the same command goes on where a run was stopped. ``--tuned`` also searches
STTM's own settings on development clips, which are of another seed, and reports what it finds on the held-out ones.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import typer

from benchmarks.needle_qa.held_out import HeldOutClip, held_out_clips, needle_clip
from benchmarks.needle_table.page import page
from benchmarks.needle_table.rows import FULL, RowFile, Setting
from benchmarks.needle_table.summary import summarise
from benchmarks.needle_table.tuning import ROUNDS, TUNED, TUNED_BUDGETS, choices, right_about_needles, search
from benchmarks.needle_table.workers import Crew, Loading
from sttm_core.engine import VideoLLM
from sttm_core.methods import METHODS
from sttm_core.settings import RunSettings

BUDGETS = (0.5, 0.3, 0.2, 0.15, 0.1, 0.05)
FIGURE = "accuracy"
DEVELOPMENT_SEED = 2


def table_settings(names: Sequence[str], budgets: Sequence[float], budget: str, released: bool) -> list[Setting]:
    """All tokens, then every method at every budget; with ``released`` also as its authors' code does it."""
    found = [Setting(FULL, None, None)]
    for name in names:
        kinds: list[dict[str, str]] = [{}]
        if released and "rules" in METHODS[name].knobs():
            kinds.append({"rules": "as_released"})
        for knobs in kinds:
            label = METHODS[name].title + (", as released" if knobs else "")
            runs = [RunSettings.of(name, retention=share, budget=budget, **knobs) for share in budgets]
            found += [Setting(label, run.retention, run) for run in runs]
    return found


def main(
    out: Annotated[Path, typer.Option(help="Folder of rows, JSON, page and figure.")] = Path("benchmarks/methods"),
    model: Annotated[str, typer.Option(help="Folder or hub id of the model.")] = "assets/demo_model",
    method: Annotated[list[str] | None, typer.Option(help="May be repeated; all methods without.")] = None,
    retention: Annotated[list[float] | None, typer.Option(help="May be repeated; 50 to 5% without.")] = None,
    budget: Annotated[str, typer.Option(help="What they are shares of: kept, layer_average, kv_bytes.")] = "kept",
    released: Annotated[bool, typer.Option("--released", help="Also with rules as_released, where there are.")] = False,
    clips: Annotated[int, typer.Option(min=1, help="Clips with needles.")] = 200,
    empty: Annotated[int, typer.Option(min=0, help="Clips without needles.")] = 50,
    tuned: Annotated[int, typer.Option(min=0, help="Tune STTM on so many development clips.")] = 0,
    num_frames: Annotated[int, typer.Option(min=4, help="Frames of each clip.")] = 16,
    seed: Annotated[int, typer.Option(help="Of the held-out clips.")] = 1,
    folder: Annotated[Path, typer.Option(help="Files of the clips: made here, or used.")] = Path("clips"),
    draw_only: Annotated[bool, typer.Option("--draw-only", help="Write the files of the clips and stop.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes, also on one GPU; each has the model.")] = 1,
    minutes: Annotated[float | None, typer.Option(help="Begin no clip after so many; run again to go on.")] = None,
    device: Annotated[str | None, typer.Option(show_default="a GPU if there is one")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
) -> None:
    """Accuracy, flips, memory and time of every method at the same budgets."""
    if unknown := [name for name in method or [] if name not in METHODS]:
        raise typer.BadParameter(f"there is no method {unknown[0]!r}; there are {', '.join(METHODS)}.")
    if seed == DEVELOPMENT_SEED:
        raise typer.BadParameter(f"seed {DEVELOPMENT_SEED} makes the development clips; take another one.")
    items = clips_of(clips, empty, num_frames, seed)
    development = [needle_clip(number, num_frames, DEVELOPMENT_SEED) for number in range(tuned)]
    folder.mkdir(parents=True, exist_ok=True)
    if draw_only:
        size = sum(item.write(folder).stat().st_size for item in (*items, *development))
        typer.echo(f"{len(items) + len(development)} clips, {size / 1e6:.1f} MB")
        return
    out.mkdir(parents=True, exist_ok=True)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    crew = Crew(Loading(model, device, dtype), workers, folder, deadline, typer.echo)
    file, llm = RowFile(out / "rows.jsonl"), crew.loading.load()
    settings = table_settings(method or list(METHODS), retention or BUDGETS, budget, released)
    try:
        found = tune(llm, crew, file, development) if tuned else None
        if found:
            runs = [RunSettings.of(retention=share, budget=budget, **found["chosen"]) for share in retention or BUDGETS]
            settings += [Setting(TUNED, run.retention, run) for run in runs]
        finished = crew.fill(file, items, settings)
        summary = summarise(file, items, settings)
    except ValueError as error:  # of too little time; what was asked is on disk
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    about = about_run(llm, workers) | {"seed": seed, "num_frames": num_frames, "budget": budget}
    write({"about": about, **summary, "tuned": found, "finished": finished}, out)


def clips_of(clips: int, empty: int, num_frames: int, seed: int) -> list[HeldOutClip]:
    """The held-out set; without clips that are empty where none are wanted."""
    return list(held_out_clips(clips, max(1, empty), num_frames, seed))[: clips + empty]


def tune(llm: VideoLLM, crew: Crew, file: RowFile, items: Sequence[HeldOutClip]) -> dict[str, Any]:
    """STTM's fields that lose least on the development clips, with all that was tried.

    Raises:
        ValueError: if the time does not suffice for the search.
    """

    def count(runs: Sequence[RunSettings]) -> list[int]:
        settings = [Setting(TUNED, run.retention, run) for run in runs]
        if not crew.fill(file, items, settings):
            raise ValueError("the time was over before STTM was tuned; run the same command again to go on.")
        return [right_about_needles(file.of(items, setting)) for setting in settings]

    fields = choices(llm.merge_layers, llm.default_merge_layer, llm.default_position_rule)
    chosen, tried = search(fields, TUNED_BUDGETS, count)
    asked = sum(len(item.questions) for item in items) * len(TUNED_BUDGETS)
    return {
        "clips": len(items), "seed": DEVELOPMENT_SEED, "budgets": TUNED_BUDGETS, "rounds": ROUNDS, "asked": asked,
        "from": {name: values[0] for name, values in fields.items()}, "chosen": chosen, "tried": tried,
    }  # fmt: skip


def about_run(llm: VideoLLM, workers: int) -> dict[str, Any]:
    """What the figures rest on."""
    on_gpu = llm.device.type == "cuda"
    arguments = " ".join(sys.argv[1:])
    return {
        "command": f"python -m benchmarks.needle_table {arguments}".strip(),
        "model": llm.name,
        "dtype": str(llm.dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name(llm.device) if on_gpu else f"CPU ({platform.machine()})",
        "workers": workers,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def write(report: dict[str, Any], out: Path) -> None:
    """JSON, page and figure; the figure needs Matplotlib, and is left as it was without it."""
    (out / "table.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if find_spec("matplotlib"):
        from benchmarks.needle_table.figure import write_figure

        write_figure(report, out / FIGURE)
    else:
        typer.echo("There is no Matplotlib here: run the same command where there is, to draw the figure.")
    (out / "README.md").write_text(page(report, FIGURE), encoding="utf-8")
    done = "all of it" if report["finished"] else "not finished: run the same command again to go on"
    typer.echo(f"{out / 'README.md'}: {report['clips']} clips, {len(report['rows'])} rows; {done}")


if __name__ == "__main__":
    typer.run(main)
