"""``python -m demo_model``: make the sample clips, train, evaluate and export the demo model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

RESULTS = Path(__file__).with_name("results")

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.callback()
def main() -> None:
    """Make the sample clips, train, evaluate and export the demo model."""


@app.command()
def clips(
    sources: Annotated[Path, typer.Option(help="Folder with the real clips.")],
    out: Annotated[Path, typer.Option(help="Folder for the clips and samples.json.")] = Path("assets/clips"),
) -> None:
    """Draw the sample clips of the app, with fixed seeds."""
    from demo_model.clip_scripts import SAMPLES
    from demo_model.clips import make_clips

    for entry in make_clips(sources, out, SAMPLES)["samples"]:
        typer.echo(f"{entry['file']:22} {(out / entry['file']).stat().st_size / 1e6:5.2f} MB  {entry['description']}")


@app.command()
def footage(
    sources: Annotated[Path, typer.Option(help="Folder of unpacked packages; FOOTAGE.md names them.")],
    out: Annotated[Path, typer.Option(help="File to write, for train --footage.")],
    split: Annotated[str, typer.Option(help="train or held-out.")] = "train",
    side: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 288,
    crops: Annotated[int, typer.Option(help="Random crops of a photograph, beside the whole.")] = 2,
    video_crops: Annotated[int, typer.Option(help="Random crops of a piece of video, beside the whole.")] = 3,
) -> None:
    """Pack real clips and photographs for backgrounds, on a machine with PyAV."""
    from demo_model.footage import SPLITS, footage_sources, save_footage, views_of

    if split not in SPLITS:
        raise typer.BadParameter(f"there is no split {split!r}; use {' or '.join(SPLITS)}.")
    views = []
    for source in footage_sources():
        if source.split == split:
            made = views_of(source, sources, side, video_crops if source.is_video else crops)
            views += [(source.file, view) for view in made]
    size = save_footage(views, out)
    typer.echo(f"{len(views)} views, {sum(len(view) for _, view in views)} pictures, {size / 1e6:.1f} MB")


@app.command()
def train(
    resume: Annotated[Path, typer.Option(help="Folder of the checkpoints; training goes on from the newest.")],
    minutes: Annotated[float, typer.Option(help="Time to train in all, over all resumed runs.")] = 9.0,
    pause_after: Annotated[
        float | None, typer.Option(help="Minutes after which this run saves and ends, to be resumed.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of an exported model whose weights to start from; the same at each run.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and clips.")] = 0,
    size: Annotated[str, typer.Option(help="default, or tiny to try the path on a CPU.")] = "default",
    footage: Annotated[Path | None, typer.Option(help="Real clips made by the command footage.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that make scenes.")] = 8,
    merging: Annotated[bool, typer.Option(help="Merge tokens in some steps (needs scipy), or only drop them.")] = True,
    device: Annotated[str, typer.Option(help="cuda, cpu, or auto.")] = "auto",
) -> None:
    """Train by the clock, from nothing or --weights; stop and resume at any time. On several GPUs: torchrun."""
    from demo_model.footage import load_footage
    from demo_model.train import Trainer, TrainSettings, continued, join_processes, tiny_settings

    settings = {"minutes": minutes, "seed": seed, "workers": workers, "merging": merging}
    chosen = tiny_settings(max_steps=None, **settings) if _size(size) == "tiny" else TrainSettings(**settings)
    chosen = continued(chosen, weights) if weights else chosen
    clips = load_footage(footage) if footage else None
    with join_processes(_device(device)) as place:
        trainer = Trainer(chosen, place, clips, typer.echo)
        trainer.run(resume, pause_after=pause_after * 60 if pause_after else math.inf)
    typer.echo(f"{trainer.step} steps; the checkpoint is in {resume}")


@app.command()
def export(
    resume: Annotated[Path, typer.Option(help="Folder of the checkpoints.")],
    out: Annotated[Path, typer.Option(help="Folder for the model in Hugging Face format.")],
    facts: Annotated[Path | None, typer.Option(help="JSON to write with the facts of the training, for card.")] = None,
) -> None:
    """Write the newest checkpoint in Hugging Face format."""
    import json

    from demo_model.export import export_checkpoint

    made = export_checkpoint(resume, out)
    if facts:
        facts.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    typer.echo(f"{sum(path.stat().st_size for path in out.iterdir()) / 1e6:.1f} MB in {out}")


@app.command()
def card(
    model: Annotated[Path, typer.Option(help="Folder of the model; its README.md is written.")],
    evaluation: Annotated[Path, typer.Option(help="JSON of evaluate.")] = RESULTS / "evaluation.json",
    training: Annotated[Path, typer.Option(help="JSON of facts about the training.")] = RESULTS / "training.json",
    held_out: Annotated[Path, typer.Option(help="JSON of benchmarks.needle_qa.")] = RESULTS / "held-out.json",
    cosines: Annotated[Path, typer.Option(help="JSON of cosines.")] = RESULTS / "cosines.json",
) -> None:
    """Write the model's card from what was measured."""
    import json

    from demo_model.export import write_card

    write_card(evaluation, model / "README.md", json.loads(training.read_text(encoding="utf-8")), held_out, cosines)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Option(help="Folder of the exported model.")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    frames: Annotated[str, typer.Option(help="Clip lengths, with commas.")] = "16,32,64",
    per_task: Annotated[int, typer.Option(help="Questions of each task.")] = 2000,
    keeps: Annotated[str, typer.Option(help="Retentions of the table of methods, with commas; empty for none.")] = "",
    footage: Annotated[Path | None, typer.Option(help="Real clips outside training, made by footage.")] = None,
    parts: Annotated[
        str, typer.Option(help="What to measure, with commas; the file keeps what it has.")
    ] = "frames,paraphrases,typos,fonts,scenes,methods",
    device: Annotated[str, typer.Option(help="cuda, cpu, or auto.")] = "auto",
) -> None:
    """Exact answers on held-out clips with Wilson intervals, as JSON."""
    from demo_model.backgrounds import Footage
    from demo_model.evaluate import write_evaluation
    from demo_model.footage import load_footage

    lengths = tuple(int(part) for part in frames.split(","))
    shares = tuple(float(part) for part in keeps.split(",") if part)
    place = _device(device)
    clips = Footage.of(load_footage(footage), place) if footage else None
    report = write_evaluation(model, out, lengths, per_task, shares, place, clips, parts.split(","), typer.echo)
    for count, result in report.get("frames", {}).items():
        row = result["overall"]
        typer.echo(f"{count} frames: {row['accuracy']:.1%} ({row['low']:.1%}-{row['high']:.1%}) of {row['total']}")


@app.command()
def cosines(
    model: Annotated[Path, typer.Option(help="Folder of the model.")] = Path("assets/demo_model"),
    clips: Annotated[Path, typer.Option(help="Folder of video files.")] = Path("assets/clips"),
    num_frames: Annotated[int, typer.Option(help="Frames sampled from each.")] = 16,
    out: Annotated[Path | None, typer.Option(help="Also write the report to this JSON file.")] = None,
) -> None:
    """How alike video tokens are before the merge layer, and what published thresholds leave of real files."""
    import json

    from demo_model.cosines import cosine_report
    from sttm_core.engine import VideoLLM

    report = cosine_report(VideoLLM.load(str(model)), sorted(clips.glob("*.mp4")), num_frames)
    for name in ("parents", "neighbours"):
        typer.echo(name + " " + "  ".join(f"{point}%: {value:.3f}" for point, value in report[name].items()))
    for name, shares in report["retention"].items():
        typer.echo(f"tau_S/tau_T {name}: " + " ".join(f"{share:.0%}" for share in shares.values()))
    if out:
        out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _device(name: str) -> str:
    """``auto`` is the GPU where there is one."""
    import torch

    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _size(name: str) -> str:
    """The name of a size, checked."""
    if name not in ("default", "tiny"):
        raise typer.BadParameter(f"there is no size {name!r}; use default or tiny.")
    return name


if __name__ == "__main__":
    app()
