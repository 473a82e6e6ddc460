"""``python -m demo_model``: make the sample clips, train, evaluate and export the demo model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    from demo_model.clips import make_clips

    for entry in make_clips(sources, out)["samples"]:
        typer.echo(f"{entry['file']:22} {(out / entry['file']).stat().st_size / 1e6:5.2f} MB  {entry['description']}")


@app.command()
def footage(
    sources: Annotated[Path, typer.Option(help="Folder with real clips (mp4, avi, mov).")],
    out: Annotated[Path, typer.Option(help="File to write, for train --footage.")],
    side: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 288,
    seconds: Annotated[float, typer.Option(help="Seconds of each clip.")] = 8.0,
) -> None:
    """Decode real clips for the backgrounds of training, on a machine with PyAV."""
    import torch

    from demo_model.footage import read_footage

    files = sorted(path for path in sources.iterdir() if path.suffix.lower() in (".mp4", ".avi", ".mov"))
    if not files:
        raise typer.BadParameter(f"there is no mp4, avi or mov file in {sources}.")
    clips = [torch.from_numpy(read_footage(path, side, side, seconds, 4)).permute(0, 3, 1, 2) for path in files]
    torch.save([clip.contiguous() for clip in clips], out)
    typer.echo(f"{len(clips)} clips, {out.stat().st_size / 1e6:.1f} MB")


@app.command()
def train(
    resume: Annotated[Path, typer.Option(help="Folder of the checkpoints; training goes on from the newest.")],
    minutes: Annotated[float, typer.Option(help="Time to train in all, over all resumed runs.")] = 9.0,
    seed: Annotated[int, typer.Option(help="Seed of weights and clips.")] = 0,
    size: Annotated[str, typer.Option(help="default, or tiny to try the path on a CPU.")] = "default",
    footage: Annotated[Path | None, typer.Option(help="Real clips made by the command footage.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that make scenes.")] = 8,
    merging: Annotated[bool, typer.Option(help="Merge tokens in some steps (needs scipy), or only drop them.")] = True,
    device: Annotated[str, typer.Option(help="cuda, cpu, or auto.")] = "auto",
) -> None:
    """Train from nothing by the clock; stop and resume at any time."""
    import torch

    from demo_model.train import Trainer, TrainSettings, tiny_settings

    settings = {"minutes": minutes, "seed": seed, "workers": workers, "merging": merging}
    chosen = tiny_settings(max_steps=None, **settings) if _size(size) == "tiny" else TrainSettings(**settings)
    clips = torch.load(footage, weights_only=True) if footage else None
    trainer = Trainer(chosen, _device(device), clips, typer.echo)
    trainer.run(resume)
    typer.echo(f"{trainer.step} steps; the checkpoint is in {resume}")


@app.command()
def export(
    resume: Annotated[Path, typer.Option(help="Folder of the checkpoints.")],
    out: Annotated[Path, typer.Option(help="Folder for the model in Hugging Face format.")],
    seed: Annotated[int, typer.Option(help="Seed that it was trained with.")] = 0,
    size: Annotated[str, typer.Option(help="default or tiny, as trained.")] = "default",
    evaluation: Annotated[Path | None, typer.Option(help="JSON of evaluate, to write the card.")] = None,
) -> None:
    """Write the newest checkpoint in Hugging Face format; with an evaluation, its card too."""
    from demo_model.export import export_checkpoint, write_card
    from demo_model.model import DEFAULT_SIZE, TINY_SIZE

    export_checkpoint(resume, TINY_SIZE if _size(size) == "tiny" else DEFAULT_SIZE, seed, out)
    if evaluation:
        write_card(evaluation, out / "README.md", {"Seed": str(seed), "Size": size})
    typer.echo(f"{sum(path.stat().st_size for path in out.iterdir()) / 1e6:.1f} MB in {out}")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Option(help="Folder of the exported model.")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    frames: Annotated[str, typer.Option(help="Clip lengths, with commas.")] = "16,32,64",
    per_task: Annotated[int, typer.Option(help="Questions of each task.")] = 2000,
    keeps: Annotated[str, typer.Option(help="Retentions of the table of methods, with commas; empty for none.")] = "",
    device: Annotated[str, typer.Option(help="cuda, cpu, or auto.")] = "auto",
) -> None:
    """Exact answers on held-out clips with Wilson intervals, as JSON."""
    from demo_model.evaluate import write_evaluation

    lengths = tuple(int(part) for part in frames.split(","))
    shares = tuple(float(part) for part in keeps.split(",") if part)
    report = write_evaluation(model, out, lengths, per_task, shares, _device(device), typer.echo)
    for count, result in report["frames"].items():
        row = result["overall"]
        typer.echo(f"{count} frames: {row['accuracy']:.1%} ({row['low']:.1%}-{row['high']:.1%}) of {row['total']}")


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
