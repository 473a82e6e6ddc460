"""TTFT by stage, with all tokens and with merged ones: `python -m benchmarks.ttft --help`.

Two uses. `--model PATH [--video CLIP]` times a checkpoint. `--shape NAME,NAME` builds those architectures with random
weights on the device, so that a GPU can be timed without downloading anything: the work done does not depend on the
weights. A shape that fails is reported and the others go on; the JSON file is written after each of them.

Random weights give similarities that mean nothing, so fixed thresholds would too. Knobs come from a budget instead:
they are found beforehand for what the model really computed of the clip before the merge layer. What the method
measures and decides with these knobs, averaging and prefill then run as for any video, and are all in the times. The
synthetic clip has still, drifting and changing areas, so that there is something for both of STTM's stages to merge.

The TTFT is read off a clock: from decoded frames in the host's memory to the first token's number on the host, the
vision encoder and its preprocessing run anew for every method. The methods take turns within a run. A second question
then goes to the prefix that is already cached; where the question decides what is kept, that takes a new prefill.
"""

from __future__ import annotations

import gc
import json
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import transformers
import typer

from benchmarks.needle_qa.asking import Encodings
from benchmarks.operations import operations
from benchmarks.shapes import SHAPES, random_model, shape_of
from sttm_core.advice import SHIPPED_MODEL
from sttm_core.budgets import KEPT
from sttm_core.comparison import settings_used
from sttm_core.engine import Answer, EncodedVideo, Prefix, VideoLLM
from sttm_core.method import Method
from sttm_core.methods import METHODS, Sttm
from sttm_core.settings import RunSettings
from sttm_core.timing import Timings, peak_memory
from sttm_core.video import VideoClip

QUESTION = "What is shown, and what changes?"
FOLLOW_UP = "And in which corner?"
STAGES = ("vision", "merge", "prefill", "first_token")
PROFILED_RETENTION = 0.3


@dataclass(frozen=True)
class Row:
    """One method at one budget: medians in seconds from decoded frames on, the spread of the TTFT, sizes in bytes.

    Attributes:
        method: its name; empty for all tokens.
        frames, video_tokens: of the clip; tokens are those from the merge layer on.
        budget, retention: the share of tokens asked for and the one reached.
        preprocess: the part of ``vision`` before the encoder: upload, resizing, normalising, tokenising.
        vision, merge, prefill, first_token: the stages of `Timings`.
        ttft, ttft_lowest, ttft_highest: by one clock over all stages.
        ttft_ratio, language_model_ratio, prefill_ratio: how many times faster than with all tokens.
        language_model: merge, prefill and first token, what papers report.
        merge_share: of the TTFT.
        follow_up, follow_up_share: TTFT of another question to the cached prefix, and as a share of ``ttft``.
        peak_bytes: weights included; ``encode_peak_bytes`` while encoding, ``peak_bytes`` in all stages.
        kv_bytes: KV cache after prefix and question.
    """

    method: str
    frames: int
    budget: float
    retention: float
    video_tokens: int
    preprocess: float
    vision: float
    merge: float
    prefill: float
    first_token: float
    ttft: float
    ttft_lowest: float
    ttft_highest: float
    ttft_ratio: float
    language_model: float
    language_model_ratio: float
    prefill_ratio: float
    merge_share: float
    follow_up: float
    follow_up_share: float
    encode_peak_bytes: int | None
    peak_bytes: int | None
    kv_bytes: int


@dataclass(frozen=True)
class Run:
    """One timed way from frames to the first token, and a second question after it."""

    ttft: float
    follow_up: float
    preprocess: float
    timings: Timings
    video_tokens: int
    answer: Answer
    encode_peak_bytes: int | None


def synthetic_clip(num_frames: int, size: tuple[int, int] = (384, 384), seed: int = 0) -> VideoClip:
    """uint8 frames ``[T, *size, 3]``: a still scene, a strip that drifts, a corner that changes in every frame."""
    rng = np.random.default_rng(seed)
    height, width = size
    blocks = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    scene = blocks.repeat(-(-height // 8), 0).repeat(-(-width // 8), 1)[:height, :width]
    frames = np.repeat(scene[None], num_frames, axis=0)  # [T, height, width, 3]
    rows, columns = height // 3, width // 3
    for index, frame in enumerate(frames):
        frame[rows : 2 * rows] = np.roll(frame[rows : 2 * rows], 3 * index, axis=1)
        frame[:rows, :columns] = rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    return VideoClip.from_frames(frames, name="synthetic")


@dataclass(frozen=True)
class Way:
    """One way to a first token: a method with knobs that were found for a budget, or all tokens (None)."""

    budget: float = 1.0
    method: Method | None = None
    settings: RunSettings | None = None  # with layer and positions as used


def bench(
    llm: VideoLLM, clip: VideoClip, retentions: Sequence[float], runs: int, methods: Sequence[str] = (Sttm.name,)
) -> list[Row]:
    """One `Row` a method and retention, all tokens first: a warm-up of each, then ``runs`` timed runs.

    Raises:
        ValueError: for an unknown method, a retention outside (0, 1] or runs below 1.
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1, got {runs}.")
    ways = ways_of(llm, clip, retentions, methods)
    for way in ways:
        timed(llm, clip, way)
    rounds = [[timed(llm, clip, way) for way in ways] for _ in range(runs)]
    by_way = list(zip(*rounds, strict=True))
    return [row(clip, way, of, by_way[0]) for way, of in zip(ways, by_way, strict=True)]


def ways_of(llm: VideoLLM, clip: VideoClip, retentions: Sequence[float], methods: Sequence[str]) -> list[Way]:
    """All tokens, then every method at each share of tokens, with the knobs that meet it on this clip."""
    shares = sorted({1.0, *retentions}, reverse=True)
    wanted = [settings_used(llm, RunSettings.of(name, retention=share)) for name in methods for share in shares]
    encodings = Encodings(llm, clip)
    return [Way()] + [
        Way(one.retention, llm.fitted(encodings.before(one.merge_layer), one, QUESTION), one)
        for one in wanted
        if one.retention < 1
    ]


def prefilled(llm: VideoLLM, encoded: EncodedVideo, way: Way, question: str) -> Prefix:
    """The prefix of a way, everything that its method does included."""
    rule = way.settings and way.settings.position_rule
    return llm.timed_prefill(encoded, way.method, question, position_rule=rule)


def timed(llm: VideoLLM, clip: VideoClip, way: Way) -> Run:
    """From decoded frames to the first token, and from a second question to its first token."""
    with peak_memory(llm.device) as peak:
        started = now(llm)
        encoded = llm.encode(clip, merge_layer=way.settings and way.settings.merge_layer)
        encoding = now(llm) - started
    if way.method is not None and way.method.acts_on == "pixels":
        encoding = 0.0  # its own encoding of smaller frames is part of what follows; that of all pixels it never needs
    started = now(llm)
    prefix = prefilled(llm, encoded, way, QUESTION)
    answer = next(llm.answering(prefix, QUESTION))
    ttft = encoding + now(llm) - started
    tokens = prefix.video_tokens
    started = now(llm)
    if way.method is not None and way.method.query_aware:
        prefix = prefilled(llm, encoded, way, FOLLOW_UP)
    next(llm.answering(prefix, FOLLOW_UP))
    follow_up = now(llm) - started
    return Run(ttft, follow_up, prefix.encoded.preprocess_s, answer.timings, tokens, answer, peak.bytes)


def now(llm: VideoLLM) -> float:
    """Seconds on a clock, read when the device has done all its work."""
    llm.synchronize()
    return time.perf_counter()


def row(clip: VideoClip, way: Way, runs: Sequence[Run], baseline: Sequence[Run]) -> Row:
    """The figures of one way; ``baseline`` holds the runs that the ratios refer to."""
    middle, whole = Timings.median(run.timings for run in runs), Timings.median(run.timings for run in baseline)
    ttfts, answer = [run.ttft for run in runs], runs[-1].answer
    ttft, follow_up = statistics.median(ttfts), statistics.median(run.follow_up for run in runs)
    return Row(
        method="" if way.method is None else way.method.name,
        frames=clip.num_frames,
        budget=way.budget,
        retention=answer.shares[KEPT],
        video_tokens=runs[-1].video_tokens,
        preprocess=statistics.median(run.preprocess for run in runs),
        **{stage: getattr(middle, stage) for stage in STAGES},
        ttft=ttft,
        ttft_lowest=min(ttfts),
        ttft_highest=max(ttfts),
        ttft_ratio=statistics.median(run.ttft for run in baseline) / ttft,
        language_model=middle.language_model,
        language_model_ratio=whole.language_model / middle.language_model,
        prefill_ratio=whole.prefill / middle.prefill,
        merge_share=middle.merge / ttft,
        follow_up=follow_up,
        follow_up_share=follow_up / ttft,
        encode_peak_bytes=runs[-1].encode_peak_bytes,
        peak_bytes=max((b for b in (runs[-1].encode_peak_bytes, answer.peak_bytes) if b is not None), default=None),
        kv_bytes=answer.kv_bytes,
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown: milliseconds, gigabytes, megabytes."""
    heads = ("method", "frames", "kept", "tokens", "preprocess", "vision", "merge", "prefill", "first token", "TTFT")
    heads += (
        "lowest-highest",
        "ratio",
        "LM ratio",
        "prefill ratio",
        "merge %",
        "follow-up",
        "of TTFT",
        "peak GB",
        "KV MB",
    )
    lines = ["| " + " | ".join(heads) + " |", "|" + "---:|" * len(heads)]
    for r in rows:
        stages = [f"{getattr(r, stage) * 1e3:.1f}" for stage in ("preprocess", *STAGES, "ttft")]
        spread = f"{r.ttft_lowest * 1e3:.0f}-{r.ttft_highest * 1e3:.0f}"
        ratios = [f"{ratio:.2f}" for ratio in (r.ttft_ratio, r.language_model_ratio, r.prefill_ratio)]
        later = [f"{r.merge_share:.2%}", f"{r.follow_up * 1e3:.1f}", f"{r.follow_up_share:.1%}"]
        sizes = ["-" if r.peak_bytes is None else f"{r.peak_bytes / 1e9:.1f}", f"{r.kv_bytes / 1e6:.1f}"]
        about = [r.method or "all tokens", str(r.frames), f"{r.retention:.1%}", str(r.video_tokens)]
        cells = [*about, *stages, spread, *ratios, *later, *sizes]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def first_token_again(llm: VideoLLM, clip: VideoClip, way: Way) -> None:
    """All of it once more, up to the first token; for the profiler."""
    encoded = llm.encode(clip, merge_layer=way.settings and way.settings.merge_layer)
    next(llm.answering(prefilled(llm, encoded, way, QUESTION), QUESTION))


def machine(llm: VideoLLM) -> dict[str, str | int]:
    """What the figures depend on beside the code."""
    on_gpu = llm.device.type == "cuda"
    return {
        "model": llm.name,
        "parameters": llm.num_parameters,
        "dtype": str(llm.dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name(llm.device) if on_gpu else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def numbers(text: str, kind: type) -> list:
    """``"1,.5"`` as a list of ``kind``."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list of numbers separated by commas.") from error


def height_and_width(text: str) -> tuple[int, int]:
    """``"720x1280"`` as two numbers."""
    try:
        height, width = (int(part) for part in text.split("x"))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no size such as 720x1280.") from error
    return height, width


@dataclass(frozen=True)
class Wanted:
    """What to time on each model."""

    counts: list[int]
    shares: list[float]
    methods: list[str]
    runs: int
    video: str | None
    size: tuple[int, int] | None
    compile_vision: bool
    profiled: bool


def figures(shape: str | None, model: str, device: str | None, wanted: Wanted) -> dict:
    """JSON-ready figures of one model; what failed stands under ``errors``."""
    found = {"machine": {"model": shape or model}, "rows": [], "errors": []}
    try:
        started = time.perf_counter()
        llm = random_model(shape, device) if shape else VideoLLM.load(model, device=device)
        if wanted.compile_vision:
            llm.compile_vision()
        found["machine"] = machine(llm) | {"loaded_s": time.perf_counter() - started, "runs": wanted.runs}
        found["machine"] |= {"compiled_vision": wanted.compile_vision, "first_encode_s": {}}
        for count in wanted.counts:
            size = wanted.size or (shape_of(shape).clip_size if shape else (384, 384))
            clip = VideoClip.open(wanted.video, count) if wanted.video else synthetic_clip(count, size)
            found["machine"] |= {"clip": clip.name, "clip_size": list(clip.frames.shape[1:3])}
            one_count(llm, clip, wanted, found)
    except Exception as error:  # the next model is timed whatever happened to this one
        traceback.print_exc()
        found["errors"].append(f"{type(error).__name__}: {error}")
    return found


def one_count(llm: VideoLLM, clip: VideoClip, wanted: Wanted, found: dict) -> None:
    """Add the figures of one clip to ``found``."""
    started = time.perf_counter()
    llm.encode(clip)  # cold: with all compiling and choosing of kernels
    found["machine"]["first_encode_s"][clip.num_frames] = time.perf_counter() - started
    if wanted.profiled:
        for way in ways_of(llm, clip, [PROFILED_RETENTION], wanted.methods):
            timed(llm, clip, way)
            name = way.method.name if way.method else "all tokens"
            spent = operations(llm, partial(first_token_again, llm, clip, way))
            print(f"-- {clip.num_frames} frames, {name} {way.budget:.0%}: {spent}", flush=True)
    found["rows"] += [asdict(of) for of in bench(llm, clip, wanted.shares, wanted.runs, wanted.methods)]


def main(
    shape: Annotated[
        str | None, typer.Option(help=f"Random weights of these shapes, separated by commas: {', '.join(SHAPES)}.")
    ] = None,
    model: Annotated[str, typer.Option(help="Or a checkpoint.", show_default="the shipped model")] = str(SHIPPED_MODEL),
    video: Annotated[str | None, typer.Option(help="A clip.", show_default="a synthetic one")] = None,
    size: Annotated[
        str | None, typer.Option(help="Height and width of the synthetic clip.", show_default="the shape's")
    ] = None,
    frames: Annotated[str, typer.Option(help="Frames, several separated by commas.")] = "16,32",
    retentions: Annotated[
        str, typer.Option(help="Shares of tokens to keep; all tokens are always timed.")
    ] = ".5,.3,.15",
    method: Annotated[
        list[str] | None, typer.Option(help="Of `python -m sttm_core methods`; may be repeated.", show_default="sttm")
    ] = None,
    runs: Annotated[int, typer.Option(min=1)] = 5,
    device: Annotated[str | None, typer.Option(show_default="a GPU if there is one")] = None,
    compile_vision: Annotated[bool, typer.Option("--compile-vision", help="torch.compile the vision encoder.")] = False,
    profiled: Annotated[
        bool,
        typer.Option("--profile", help=f"Show what takes the time, of all tokens and of {PROFILED_RETENTION:.0%}."),
    ] = False,
    json_out: Annotated[Path | None, typer.Option(help="Also write the figures to this file.")] = None,
) -> None:
    """Time to first token by stage, of any method at several retentions."""
    names = method or [Sttm.name]
    if unknown := [name for name in names if name not in METHODS]:
        raise typer.BadParameter(f"there is no method {unknown[0]!r}; there are {', '.join(METHODS)}.")
    measured_size = height_and_width(size) if size else None
    shares = numbers(retentions, float)
    wanted = Wanted(numbers(frames, int), shares, names, runs, video, measured_size, compile_vision, profiled)
    found: list[dict] = []
    for name in shape.split(",") if shape else [None]:
        found.append(figures(name, model, device, wanted))
        about = found[-1]["machine"]
        print(", ".join(f"{key} {value}" for key, value in about.items()))
        print(table([Row(**values) for values in found[-1]["rows"]]), flush=True)
        if json_out:
            json_out.write_text(json.dumps(found, indent=2) + "\n")
        gc.collect()
        torch.cuda.empty_cache()
    errors = [f"{of['machine']['model']}: {error}" for of in found for error in of["errors"]]
    print("\n".join(errors), file=sys.stderr)
    raise typer.Exit(int(bool(errors)))


if __name__ == "__main__":
    typer.run(main)
