"""The vision encoder by itself, in several ways, on the same clip and device: `python -m benchmarks.vision --help`.

``plain`` is the encoder as transformers has it, but for attention in one call (`sttm_core.packed_attention`). ``fused``
is what this package runs. ``compiled`` is `torch.compile` of the layers, with patches, pooling and widths as in
``fused``. The time is that of preprocessing and encoder, read off a clock; the
decoder's layers before the merge, which run too, are not in it.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.operations import operations
from benchmarks.shapes import SHAPES, random_model, shape_of
from benchmarks.ttft import machine, numbers, synthetic_clip
from sttm_core.engine import VideoLLM
from sttm_core.video import VideoClip
from sttm_core.vision import align_feed_forward
from sttm_core.vision.feed_forward import original_feed_forward


@dataclass(frozen=True)
class Row:
    """Medians in seconds of one way.

    Attributes:
        first: the first encoding, with all compiling and choosing of kernels.
        preprocess, vision: as in `EncodedVideo`; ``vision`` without preprocessing, unlike there.
        lowest, highest: of ``vision``.
        off: root mean square of the difference to the first way's tokens before the merge layer, over theirs.
    """

    way: str
    frames: int
    first: float
    preprocess: float
    vision: float
    lowest: float
    highest: float
    off: float


def plain(llm: VideoLLM) -> None:
    """As in transformers."""
    original_feed_forward(llm.family.vision(llm.model))
    llm.family = copy(llm.family)
    llm.family.fast_vision = lambda model: nullcontext()


def fused(llm: VideoLLM) -> None:
    """As this package runs it."""
    align_feed_forward(llm.family.vision(llm.model))


def compiled(llm: VideoLLM) -> None:
    """With `torch.compile`."""
    align_feed_forward(llm.family.vision(llm.model))
    llm.compile_vision()


WAYS: dict[str, Callable[[VideoLLM], None]] = {"plain": plain, "fused": fused, "compiled": compiled}


@contextmanager
def run_as(llm: VideoLLM, way: str) -> Iterator[None]:
    """Inside the `with`, the model encodes in this way."""
    family = llm.family
    try:
        WAYS[way](llm)
        yield
    finally:
        llm.family = family
        for layer in family.vision(llm.model).modules():
            vars(layer).pop("forward", None)


def one_way(llm: VideoLLM, way: str, clip: VideoClip, runs: int) -> tuple[Row, torch.Tensor]:
    """The figures of a way, but for ``off``, and the tokens ``[T, H, W, C]`` before the merge layer."""
    with run_as(llm, way):
        started = time.perf_counter()
        tokens = llm.encode(clip).tokens.float()
        first = time.perf_counter() - started
        spent = []
        for _ in range(runs):
            made = llm.encode(clip)
            spent.append((made.preprocess_s, made.vision_s - made.preprocess_s))
    before, within = zip(*spent, strict=True)
    middle = statistics.median(before), statistics.median(within)
    return Row(way, clip.num_frames, first, *middle, min(within), max(within), 0.0), tokens


def compare(llm: VideoLLM, ways: list[str], clip: VideoClip, runs: int) -> tuple[list[Row], list[str]]:
    """A row for each way that runs, and what went wrong with others."""
    known, rows, errors = None, [], []
    for way in ways:
        try:
            row, tokens = one_way(llm, way, clip, runs)
        except Exception as error:  # the other ways are timed whatever happened to this one
            traceback.print_exc()
            errors.append(f"{way}: {type(error).__name__}: {error}")
            continue
        known = tokens if known is None else known
        off = (tokens - known).square().mean().sqrt() / known.square().mean().sqrt()
        rows.append(replace(row, off=float(off)))
    return rows, errors


def table(rows: list[Row]) -> str:
    """The rows as Markdown: milliseconds, the first encoding in seconds."""
    lines = ["| way | frames | preprocess | encoder | lowest-highest | first, s | off |", "|---|" + "---:|" * 6]
    for row in rows:
        times = f"{row.preprocess * 1e3:.0f} | {row.vision * 1e3:.0f} | {row.lowest * 1e3:.0f}-{row.highest * 1e3:.0f}"
        lines.append(f"| {row.way} | {row.frames} | {times} | {row.first:.1f} | {row.off:.4f} |")
    return "\n".join(lines)


def figures(shape: str, device: str | None, ways: list[str], counts: list[int], runs: int, profiled: bool) -> dict:
    """JSON-ready figures of one shape."""
    llm = random_model(shape, device)
    found = {"machine": machine(llm) | {"runs": runs}, "rows": [], "errors": []}
    for count in counts:
        clip = synthetic_clip(count, shape_of(shape).clip_size)
        rows, errors = compare(llm, ways, clip, runs)
        found["rows"] += [asdict(row) for row in rows]
        found["errors"] += errors
        print(f"{shape}, {found['machine']['device']}\n{table(rows)}", flush=True)
        for way in [row.way for row in rows] if profiled else []:
            with run_as(llm, way):
                print(f"-- {way}: {operations(llm, partial(llm.encode, clip))}", flush=True)
    return found


def main(
    shape: Annotated[str, typer.Option(help=f"Random weights of these shapes: {', '.join(SHAPES)}.")],
    frames: Annotated[str, typer.Option(help="Frames, several separated by commas.")] = "128",
    ways: Annotated[str, typer.Option(help="Of plain, fused and compiled.")] = ",".join(WAYS),
    runs: Annotated[int, typer.Option(min=1)] = 3,
    device: Annotated[str | None, typer.Option(show_default="a GPU if there is one")] = None,
    profiled: Annotated[bool, typer.Option("--profile", help="Show what takes the time in each way.")] = False,
    json_out: Annotated[Path | None, typer.Option(help="Also write the figures to this file.")] = None,
) -> None:
    """Preprocessing and vision encoder: as in transformers, fused, and compiled."""
    named = ways.split(",")
    if unknown := [way for way in named if way not in WAYS]:
        raise typer.BadParameter(f"there is no way {unknown[0]!r}; there are {', '.join(WAYS)}.")
    found = []
    for name in shape.split(","):
        found.append(figures(name, device, named, numbers(frames, int), runs, profiled))
        if json_out:
            json_out.write_text(json.dumps(found, indent=2) + "\n")
        gc.collect()
        torch.cuda.empty_cache()
    errors = [f"{of['machine']['model']}, {error}" for of in found for error in of["errors"]]
    print("\n".join(errors), file=sys.stderr)
    raise typer.Exit(int(bool(errors)))


if __name__ == "__main__":
    typer.run(main)
