"""STTM Studio: see, measure and trust token merging for Video LLMs. `python app.py --help` lists the options."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from sttm_core import command_line as options  # noqa: E402 - after the environment is set

if TYPE_CHECKING:
    from viz.files import Files

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@cli.command()
@options.grouped
def main(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
    share: Annotated[bool, typer.Option(help="Make a temporary public link through Gradio.")] = False,
    auth: Annotated[str, typer.Option(help="Ask visitors to sign in: NAME:PASSWORD.")] = "",
    max_frames: Annotated[int, typer.Option(min=1, max=1024, help="Most frames that a visitor may choose.")] = 64,
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Largest upload in megabytes.")] = 500,
    cache_gb: Annotated[
        float, typer.Option(min=0.1, help="Memory for encoded videos and KV caches, of the GPUs and of the host each.")
    ] = 4.0,
    question_seconds: Annotated[
        float, typer.Option(min=1, help="Longest time that a question may hold the model, half for each answer.")
    ] = 120.0,
    disk_gb: Annotated[float, typer.Option(min=0.1, help="Disk for uploads and files made for visitors.")] = 10.0,
    *,
    loading: options.Loading,
) -> None:
    """Start the app on a model; open the printed address in a browser."""
    if auth and not all(auth.partition(":")):
        raise ValueError("--auth wants NAME:PASSWORD.")
    print(f"Loading {loading.model} ...", flush=True)
    llm = options.load_model(loading)
    files = _files_of_process(disk_gb)
    from sttm_core.advice import advice_for
    from viz.precomputed import Precomputed
    from viz.studio import Studio
    from viz.tabs import build_app, launch_options

    defaults, store = advice_for(loading.model), int(cache_gb * 2**30)
    limits = {"max_frames": max_frames, "store_bytes": store, "question_seconds": question_seconds}
    studio = Studio(llm, defaults, precomputed=Precomputed(llm), **limits)
    studio.warm_up()
    build_app(studio, files).queue(default_concurrency_limit=4).launch(
        server_name=host,
        server_port=port,
        share=share,
        auth=tuple(auth.split(":", 1)) if auth else None,
        max_file_size=f"{max_upload_mb}mb",
        **launch_options(),
    )


def _files_of_process(disk_gb: float) -> Files:
    """One bounded folder for uploads and everything made for visitors; it goes with the process, also at SIGTERM."""
    from viz.files import Files

    files = Files.of_process(os.environ.get("GRADIO_TEMP_DIR"), int(disk_gb * 2**30))
    os.environ["GRADIO_TEMP_DIR"] = str(files.folder)  # Gradio asks for it when it is imported: not before
    files.keep_trimmed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # else nothing is cleaned up
    return files


if __name__ == "__main__":
    sys.exit(options.run(cli))
