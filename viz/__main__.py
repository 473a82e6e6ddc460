"""`python -m viz render clip.mp4 --out overlay.mp4`: the merge plan on the frames, as a video or a contact sheet."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sttm_core import command_line as options
from sttm_core.command_line import Progress, prepare, quiet_stdout, run

if TYPE_CHECKING:
    from sttm_core.engine import EncodedVideo, VideoLLM
    from sttm_core.method import Plan
    from sttm_core.settings import RunSettings
    from sttm_core.video import VideoClip

    from .overlay import Annotator

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Overlay(str, Enum):
    """What can be drawn, from the bottom up, whatever order it is asked for in."""

    heat = "heat"
    ghost = "ghost"
    chains = "chains"
    quadtree = "quadtree"


Out = Annotated[Path, typer.Option(help="File to write: .mp4 (video) or .png (contact sheet).", show_default=False)]
Overlays = Annotated[
    list[Overlay],
    typer.Option(help="What to draw; give it several times to draw several over each other."),
]
Columns = Annotated[int, typer.Option(min=1, help="Frames in a row of the contact sheet.")]
Asked = Annotated[
    str | None, typer.Option(help="What is asked, for a method that reads it: it decides what is kept.")
]
Fps = Annotated[float, typer.Option(help="Sampled frames a second in the video.")]


@app.callback()
def commands() -> None:
    """Pictures of spatio-temporal token merging. Progress and errors go to stderr."""


@app.command()
@options.grouped
def render(
    video: options.Video,
    out: Out,
    overlay: Overlays = (Overlay.ghost, Overlay.quadtree),
    columns: Columns = 4,
    fps: Fps = 2.0,
    question: Asked = None,
    num_frames: options.NumFrames = None,
    *,
    merging: options.Merging,
    loading: options.Loading,
) -> None:
    """Draw what a method leaves of a video on its frames; dropped patches are dark and hatched."""
    check_out(out)
    check_fps(fps)
    check_asked(merging.method, question)
    with quiet_stdout(), Progress() as progress:
        clip, llm, settings = prepare(progress, video, num_frames, merging, loading)
        progress.working(f"encoding {clip.num_frames} frames")
        plan = plan_of(llm, llm.encode(clip, merge_layer=settings.merge_layer), settings, question)
        progress.working(f"drawing {out.name}")
        draw(clip, plan, overlay, out, columns, fps)
    print(
        f"{out}: {plan.num_frames} frames, {plan.retention:.1%} kept ({plan.num_tokens} of {plan.num_patches} tokens)"
    )


def check_out(out: Path) -> None:
    """ValueError, before any work is done, for a file that could not be written."""
    if out.suffix.lower() not in (".mp4", ".png"):
        raise ValueError(f"The picture can be written as .mp4 or .png; --out is {out.name}.")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise ValueError(
            f"The folder {out.parent} does not exist or can't be written to; choose another one for --out."
        )
    if out.is_dir():
        raise ValueError(f"{out} is a folder; give --out the name of a file.")


def check_fps(fps: float) -> None:
    """ValueError for a frame rate that no video can have."""
    if not 0 < fps <= 1000:
        raise ValueError(f"fps is {fps}: give a number above 0 and up to 1000.")


def check_asked(method: str | None, question: str | None) -> None:
    """ValueError for a method that wants a question where there is none."""
    if method is None or question is not None:
        return
    from sttm_core.methods import METHODS

    if method in METHODS and METHODS[method].query_aware:
        raise ValueError(f"{METHODS[method].title} keeps what the question asks for; give --question.")


def plan_of(llm: VideoLLM, encoded: EncodedVideo, settings: RunSettings, question: str | None) -> Plan:
    """What the method leaves; one that acts on something else than tokens has to run to know."""
    if settings.method.acts_on == "tokens":
        return encoded.plan(settings)
    method = llm.fitted(encoded, settings, question)
    return llm.timed_prefill(encoded, method, question, position_rule=settings.position_rule).plan


def draw(clip: VideoClip, plan: Plan, overlay: Iterable[Overlay], out: Path, columns: int, fps: float) -> None:
    """Write the annotated frames as the file's ending says."""
    from PIL import Image

    from sttm_core.video import step_frames, write_mp4

    from .overlay import render_strip, render_video

    shown = step_frames(clip.num_frames, plan.num_frames)
    frames, times = clip.frames[shown], clip.times[shown]
    if out.suffix.lower() == ".mp4":
        write_mp4(render_video(frames, plan, annotator(overlay), times=times), out, fps)
    else:
        Image.fromarray(render_strip(frames, plan, annotator(overlay), columns, times=times)).save(out)


def annotator(overlay: Iterable[Overlay]) -> Annotator:
    """These overlays over each other, lines above areas."""
    from .overlay import ChainOverlay, GhostOverlay, HeatOverlay, Mixed, QuadtreeOverlay

    kinds = {"heat": HeatOverlay, "ghost": GhostOverlay, "chains": ChainOverlay, "quadtree": QuadtreeOverlay}
    return Mixed([kinds[kind.value]() for kind in Overlay if kind in set(overlay)])


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run(app, (sys.argv[1:] if arguments is None else arguments) or ["--help"])


if __name__ == "__main__":
    sys.exit(main())
