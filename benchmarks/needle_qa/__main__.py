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

from benchmarks.needle_qa.held_out import held_out_clips
from benchmarks.needle_qa.items import needle_clips
from benchmarks.needle_qa.run import run, table
from sttm_core.advice import advice_for
from sttm_core.engine import VideoLLM
from sttm_core.methods import METHODS, Sttm
from sttm_core.settings import RunSettings, knobs_for

NEEDLES, HELD_OUT = "needles", "held-out"


def main(
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    model: Annotated[str, typer.Option(help="Folder or hub id of the model.")] = "assets/demo_model",
    name: Annotated[
        str, typer.Option("--set", help="needles, or held-out: fonts and footage outside training.")
    ] = NEEDLES,
    per_task: Annotated[int, typer.Option(help="Questions of each task, of the set needles.")] = 20,
    clips: Annotated[int, typer.Option(help="Clips with needles, of the set held-out.")] = 200,
    empty: Annotated[int, typer.Option(help="Clips without needles, of the set held-out.")] = 50,
    num_frames: Annotated[int, typer.Option(help="Frames of each clip.")] = 16,
    method: Annotated[
        list[str] | None, typer.Option(help="Of `python -m sttm_core methods`; may be repeated. STTM without.")
    ] = None,
    tau: Annotated[
        list[str] | None,
        typer.Option(help="TAU_S,TAU_T; may be repeated. The model's own without, in the set needles."),
    ] = None,
    retention: Annotated[list[float] | None, typer.Option(help="Budget, 0 to 1; may be repeated.")] = None,
    budget: Annotated[str, typer.Option(help="What budgets are shares of: kept, layer_average, kv_bytes.")] = "kept",
    rules: Annotated[str, typer.Option(help="paper or as_released.")] = "paper",
    prefer: Annotated[
        str | None, typer.Option(help="What falls first for a budget; the model's advice without.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the set.")] = 1,
    mp4: Annotated[
        bool, typer.Option(help="Pass every clip through an H.264 file; held-out clips always are.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the files of held-out clips here, and use those there.")
    ] = None,
    draw_only: Annotated[bool, typer.Option(help="Write the files of held-out clips to --folder and stop.")] = False,
    device: Annotated[str | None, typer.Option(help="cuda or cpu.")] = None,
) -> None:
    """Ask a model about needles, from all tokens and from merged ones."""
    _check(name, out, folder, draw_only, method, retention)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    drawn = held_out_clips(clips, empty, num_frames, seed)  # begins to check its numbers when it is asked for clips
    items = list(drawn) if name == HELD_OUT else needle_clips(per_task, num_frames, seed)
    if draw_only:
        size = sum(item.write(folder).stat().st_size for item in items)
        typer.echo(f"{len(items)} clips, {size / 1e6:.1f} MB")
        return
    settings = _settings(model, name, method, retention, budget, tau, {"rules": rules, "prefer": prefer})
    llm = VideoLLM.load(model, **({"device": device} if device else {}))
    with tempfile.TemporaryDirectory() as temporary:
        files = (folder or Path(temporary)) if name == HELD_OUT or mp4 else None
        rows, wrong = run(llm, settings, items, files, typer.echo)
    typer.echo(table(rows))
    about = {
        "set": name,
        "per_task": per_task if name == NEEDLES else None,
        "clips": [clips, empty] if name == HELD_OUT else None,
        "num_frames": num_frames,
        "seed": seed,
        "mp4": mp4 or name == HELD_OUT,
    }
    report = {"benchmark": "needle_qa", "model": llm.name} | about | _machine(llm) | {"rows": rows, "wrong": wrong}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _settings(
    model: str,
    name: str,
    methods: list[str] | None,
    shares: list[float] | None,
    budget: str,
    taus: list[str] | None,
    knobs: dict[str, str | None],
) -> list[RunSettings]:
    """Every method at every budget, then pairs of thresholds; of the set needles the model's own pair without any."""
    advice = advice_for(model)
    knobs = knobs | {"prefer": knobs["prefer"] or advice.prefer}
    found = [
        RunSettings.of(one, retention=share, budget=budget, **knobs_for(one, knobs))
        for one in methods or [Sttm.name]
        for share in shares or []
    ]
    found += [_thresholds(text, knobs["rules"]) for text in taus or []]
    if not found and name == NEEDLES:
        pair = {"tau_spatial": advice.tau_spatial, "tau_temporal": advice.tau_temporal}
        found = [RunSettings.of(**pair, rules=knobs["rules"])]
    return found


def _machine(llm: VideoLLM) -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "device": str(llm.device),
    }


def _check(
    name: str, out: Path | None, folder: Path | None, draw_only: bool, method: list[str] | None, share: list | None
) -> None:
    """Refuse options that make no sense together."""
    if unknown := [one for one in method or [] if one not in METHODS]:
        raise typer.BadParameter(f"there is no method {unknown[0]!r}; there are {', '.join(METHODS)}.")
    if method and not share:
        raise typer.BadParameter("--method is compared at budgets: give --retention, once or more often.")
    if name not in (NEEDLES, HELD_OUT):
        raise typer.BadParameter(f"there is no set {name!r}; use {NEEDLES} or {HELD_OUT}.")
    if draw_only and (folder is None or name != HELD_OUT):
        raise typer.BadParameter(f"--draw-only needs --set {HELD_OUT} and --folder.")
    if out is None and not draw_only:
        raise typer.BadParameter("give --out, the JSON file to write.")


def _thresholds(text: str, rules: str) -> RunSettings:
    """``0.95,0.97`` as settings."""
    try:
        spatial, temporal = (float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not TAU_S,TAU_T; write for example 0.95,0.97.") from error
    return RunSettings.of(tau_spatial=spatial, tau_temporal=temporal, rules=rules)


if __name__ == "__main__":
    typer.run(main)
