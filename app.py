"""STTM Studio: see, measure and trust token merging for Video LLMs. `python app.py --help` lists the options."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from sttm_core.defaults import SHIPPED_MODEL, default_thresholds  # noqa: E402 - after the environment is set


def main(
    model: Annotated[str, typer.Option(help="Folder or hub id of a Video LLM.")] = str(SHIPPED_MODEL),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
    share: Annotated[bool, typer.Option(help="Make a temporary public link through Gradio.")] = False,
    auth: Annotated[str, typer.Option(help="Ask visitors to sign in: NAME:PASSWORD.")] = "",
    max_frames: Annotated[int, typer.Option(help="Most frames that a visitor may choose.")] = 64,
    max_upload_mb: Annotated[int, typer.Option(help="Largest upload in megabytes.")] = 500,
    cache_gb: Annotated[float, typer.Option(help="Memory for encoded videos and KV caches.")] = 4.0,
    device: Annotated[str, typer.Option(help="cuda, cpu...; a GPU if there is one by default.")] = "",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "",
    device_map: Annotated[str, typer.Option(help="auto spreads a large model over several GPUs.")] = "",
    attn: Annotated[str, typer.Option(help="sdpa, eager or flash_attention_2.")] = "sdpa",
) -> None:
    """Start the app on a model and open it in a browser at the printed address."""
    from sttm_core.engine import ModelError, VideoLLM
    from viz.precomputed import Precomputed
    from viz.studio import Studio
    from viz.tabs import build_app, launch_options

    print(f"Loading {model} ...", flush=True)
    try:
        llm = VideoLLM.load(
            model, device=device or None, dtype=dtype or None, device_map=device_map or None, attention=attn
        )
        defaults = default_thresholds(model)
    except (ModelError, ValueError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    studio = Studio(
        llm, defaults, max_frames=max_frames, store_bytes=int(cache_gb * 2**30), precomputed=Precomputed(llm)
    )
    studio.warm_up()
    build_app(studio).queue(default_concurrency_limit=4).launch(
        server_name=host,
        server_port=port,
        share=share,
        auth=tuple(auth.split(":", 1)) if ":" in auth else None,
        max_file_size=f"{max_upload_mb}mb",
        **launch_options(),
    )


if __name__ == "__main__":
    typer.run(main)
