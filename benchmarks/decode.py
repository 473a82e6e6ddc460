"""How long a video's frames take, by decord and by PyAV: `python -m benchmarks.decode clip.mp4 --frames 16,64,128`.

Both ways through `VideoClip.open`, as the application does it, with probing and the check for damage; the second with
decord hidden. The frames are compared: decord is only used where it gives the same ones.
"""

from __future__ import annotations

import json
import statistics
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated
from unittest import mock

import numpy as np
import typer

from benchmarks.ttft import numbers
from sttm_core.video import VideoClip
from sttm_core.video import decode as video_decode


@dataclass(frozen=True)
class Row:
    """Seconds for one number of frames; ``largest_difference`` of any colour value from PyAV's frames (0 to 255)."""

    path: str
    frames: int
    median_s: float
    lowest_s: float
    highest_s: float
    largest_difference: int


def bench(video: str, num_frames: int, runs: int) -> list[Row]:
    """PyAV's row, then decord's where it is installed.

    Raises:
        ValueError: (`VideoError`) for a video that can't be read.
    """
    hidden = mock.patch.object(video_decode, "decord", None)
    ways = {"PyAV": hidden} | ({"decord where it is exact": nullcontext()} if video_decode.decord else {})
    rows, reference = [], None
    for path, way in ways.items():
        with way:
            clips = [VideoClip.open(video, num_frames) for _ in range(runs + 1)][1:]  # the first warms the disk cache
        seconds, frames = [clip.decode_s for clip in clips], clips[0].frames
        reference = frames if reference is None else reference
        apart = int(np.abs(frames.astype(np.int16) - reference).max())
        rows.append(Row(path, len(frames), statistics.median(seconds), min(seconds), max(seconds), apart))
    return rows


def main(
    video: Annotated[str, typer.Argument(help="Video file.", show_default=False)],
    frames: Annotated[str, typer.Option(help="Frames, several separated by commas.")] = "16,64,128",
    runs: Annotated[int, typer.Option(min=1)] = 3,
    json_out: Annotated[Path | None, typer.Option(help="Also write the figures to this file.")] = None,
) -> None:
    """Decoding time by path."""
    rows = [row for count in numbers(frames, int) for row in bench(video, count, runs)]
    print("| path | frames | median | lowest-highest | largest difference |\n|---|---:|---:|---:|---:|")
    for r in rows:
        spread = f"{r.lowest_s:.3f}-{r.highest_s:.3f} s"
        print(f"| {r.path} | {r.frames} | {r.median_s:.3f} s | {spread} | {r.largest_difference} |")
    if json_out:
        json_out.write_text(json.dumps([asdict(r) for r in rows], indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
