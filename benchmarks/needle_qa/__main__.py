"""``python -m benchmarks.needle_qa``: accuracy by task, full video against merged, as a table and JSON."""

from __future__ import annotations

import json
import platform
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import transformers
import typer

from benchmarks.needle_qa.run import run, table
from sttm_core.comparison import MergeSettings
from sttm_core.defaults import default_thresholds
from sttm_core.engine import VideoLLM


def main(
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    model: Annotated[str, typer.Option(help="Folder or hub id of the model.")] = "assets/demo_model",
    per_task: Annotated[int, typer.Option(help="Questions of each task.")] = 20,
    num_frames: Annotated[int, typer.Option(help="Frames of each clip.")] = 16,
    tau: Annotated[
        list[str] | None, typer.Option(help="TAU_S,TAU_T; may be repeated. The model's own without.")
    ] = None,
    retention: Annotated[list[float] | None, typer.Option(help="Budget, 0 to 1; may be repeated.")] = None,
    rules: Annotated[str, typer.Option(help="paper or as_released.")] = "paper",
    seed: Annotated[int, typer.Option(help="Seed of the set.")] = 1,
    mp4: Annotated[bool, typer.Option(help="Pass every clip through an H.264 file.")] = False,
) -> None:
    """Ask a model about needles, from all tokens and from merged ones."""
    settings = [MergeSettings(retention=share, rules=rules) for share in retention or []]
    settings += [_thresholds(text, rules) for text in tau or []]
    if not settings:
        advice = default_thresholds(model)
        settings = [MergeSettings(advice.tau_spatial, advice.tau_temporal, rules=rules)]
    llm = VideoLLM.load(model)
    with tempfile.TemporaryDirectory() as folder:
        rows = run(llm, settings, per_task, num_frames, seed, Path(folder) if mp4 else None, typer.echo)
    typer.echo(table(rows))
    report = {
        "benchmark": "needle_qa",
        "model": llm.name,
        "per_task": per_task,
        "num_frames": num_frames,
        "seed": seed,
        "mp4": mp4,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "device": str(llm.device),
        "rows": rows,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _thresholds(text: str, rules: str) -> MergeSettings:
    """``0.95,0.97`` as settings."""
    try:
        spatial, temporal = (float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not TAU_S,TAU_T; write for example 0.95,0.97.") from error
    return MergeSettings(spatial, temporal, rules=rules)


if __name__ == "__main__":
    typer.run(main)
