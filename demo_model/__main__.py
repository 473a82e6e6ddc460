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


if __name__ == "__main__":
    app()
