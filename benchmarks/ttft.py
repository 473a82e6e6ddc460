"""TTFT by stage, with all tokens and with merged ones: `python -m benchmarks.ttft --help`.

Two uses. `--model PATH [--video CLIP]` times a checkpoint. `--shape NAME,NAME` builds those architectures with random
weights on the device, so that a GPU can be timed without downloading anything: the work done does not depend on the
weights. A shape that fails is reported and the others go on; the JSON file is written after each of them.

Random weights give similarities that mean nothing, so fixed thresholds would too. The plans come from a retention
instead: `thresholds_for_retention` reads the similarities that the model really computed for the clip before its merge
layer and finds the thresholds at which the wanted share of tokens is left. Tables, plan, averaging and prefill then run
as for any video, and are all in the times. The synthetic clip has still, drifting and changing areas, so that there is
something for both stages to merge.

The TTFT is read off a clock: from decoded frames in the host's memory to the first token's number on the host, the
vision encoder and its preprocessing run anew for every plan. The plans take turns within a run. A second question then
goes to the prefix that is already cached.
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
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import transformers
import typer
from torch.profiler import ProfilerActivity, profile

from benchmarks.shapes import SHAPES, random_model, shape_of
from sttm_core.advice import SHIPPED_MODEL
from sttm_core.engine import Answer, VideoLLM
from sttm_core.methods.sttm.plan import MergePlan
from sttm_core.settings import RunSettings
from sttm_core.timing import Timings, peak_memory
from sttm_core.video import VideoClip

QUESTION = "What is shown, and what changes?"
FOLLOW_UP = "And in which corner?"
STAGES = ("vision", "merge", "prefill", "first_token")
PROFILED_RETENTION = 0.3
TOP_OPERATIONS = 12


@dataclass(frozen=True)
class Row:
    """One retention: medians in seconds from decoded frames on, the spread of the TTFT, sizes in bytes.

    Attributes:
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


def bench(llm: VideoLLM, clip: VideoClip, retentions: Sequence[float], runs: int) -> list[Row]:
    """One `Row` a retention, all tokens first: a warm-up of each, then ``runs`` timed runs.

    Raises:
        ValueError: for a retention outside (0, 1] or runs below 1.
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1, got {runs}.")
    plans = plans_of(llm, clip, retentions)
    for plan in plans.values():
        timed(llm, clip, plan)
    rounds = [{budget: timed(llm, clip, plan) for budget, plan in plans.items()} for _ in range(runs)]
    by_budget = {budget: [of[budget] for of in rounds] for budget in plans}
    return [row(clip, budget, plan, by_budget[budget], by_budget[1.0]) for budget, plan in plans.items()]


def plans_of(llm: VideoLLM, clip: VideoClip, retentions: Sequence[float]) -> dict[float, MergePlan | None]:
    """A plan for each share of tokens; None for all tokens, which come first."""
    wanted = [RunSettings.of(retention=share) for share in sorted({1.0, *retentions}, reverse=True)]
    encoded = llm.encode(clip)
    return {of.retention: None if of.retention == 1 else encoded.plan(of) for of in wanted}


def timed(llm: VideoLLM, clip: VideoClip, plan: MergePlan | None) -> Run:
    """From decoded frames to the first token, and from a second question to its first token."""
    with peak_memory(llm.device) as peak:
        started = now(llm)
        encoded = llm.encode(clip)
        encoding = now(llm) - started
    started = now(llm)
    prefix = llm.prefill(encoded, plan)
    answer = next(llm.answering(prefix, QUESTION))
    ttft = encoding + now(llm) - started
    started = now(llm)
    next(llm.answering(prefix, FOLLOW_UP))
    follow_up = now(llm) - started
    return Run(ttft, follow_up, encoded.preprocess_s, answer.timings, prefix.video_tokens, answer, peak.bytes)


def now(llm: VideoLLM) -> float:
    """Seconds on a clock, read when the device has done all its work."""
    llm.synchronize()
    return time.perf_counter()


def row(clip: VideoClip, budget: float, plan: MergePlan | None, runs: Sequence[Run], baseline: Sequence[Run]) -> Row:
    """The figures of one plan; ``baseline`` holds the runs that the ratios refer to."""
    middle, whole = Timings.median(run.timings for run in runs), Timings.median(run.timings for run in baseline)
    ttfts, answer = [run.ttft for run in runs], runs[-1].answer
    ttft, follow_up = statistics.median(ttfts), statistics.median(run.follow_up for run in runs)
    return Row(
        frames=clip.num_frames,
        budget=budget,
        retention=1.0 if plan is None else plan.retention,
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
    heads = ("frames", "kept", "tokens", "preprocess", "vision", "merge", "prefill", "first token", "TTFT")
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
        cells = [str(r.frames), f"{r.retention:.1%}", str(r.video_tokens), *stages, spread, *ratios, *later, *sizes]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def operations(llm: VideoLLM, clip: VideoClip, plan: MergePlan | None) -> str:
    """The operations of one way to the first token that take most time on the device, and how busy it is."""
    on_gpu = llm.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, acc_events=True, record_shapes=True) as profiled:
        started = now(llm)
        next(llm.answering(llm.prefill(llm.encode(clip), plan), QUESTION))
        passed = now(llm) - started
    spent = [
        (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event.count, event.key)
        for event in profiled.key_averages()
        if not on_gpu or event.device_type == torch.autograd.DeviceType.CUDA
    ]  # microseconds
    total = sum(time_us for time_us, _, _ in spent)
    lines = [
        f"{passed * 1e3:.0f} ms under the profiler, {total / 1e3:.0f} ms of them in operations on {llm.device.type}"
    ]
    for time_us, count, name in sorted(spent, reverse=True)[:TOP_OPERATIONS]:
        lines.append(f"{time_us / 1e3:9.2f} ms {time_us / max(total, 1e-9):6.1%} {count:6d} x {name[:90]}")
    if on_gpu:  # whose kernels those are
        by_shape = profiled.key_averages(group_by_input_shape=True)
        asked = sorted((event for event in by_shape if event.key.startswith("aten::")), key=device_time, reverse=True)
        for event in asked[: 2 * TOP_OPERATIONS]:
            shapes = ", ".join("x".join(map(str, shape)) for shape in event.input_shapes if shape)
            lines.append(f"{device_time(event) / 1e3:9.2f} ms {event.count:13d} x {event.key} {shapes[:90]}")
    return "\n".join(lines)


def device_time(event) -> float:
    """Microseconds of the device in an operation's own kernels."""
    return event.self_device_time_total


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
        plans = plans_of(llm, clip, [PROFILED_RETENTION])
        for share, plan in plans.items():
            timed(llm, clip, plan)
            print(f"-- {clip.num_frames} frames, {share:.0%} kept: {operations(llm, clip, plan)}", flush=True)
    found["rows"] += [asdict(of) for of in bench(llm, clip, wanted.shares, wanted.runs)]


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
    runs: Annotated[int, typer.Option(min=1)] = 5,
    device: Annotated[str | None, typer.Option(show_default="a GPU if there is one")] = None,
    compile_vision: Annotated[bool, typer.Option("--compile-vision", help="torch.compile the vision encoder.")] = False,
    profiled: Annotated[
        bool,
        typer.Option("--profile", help=f"Show what takes the time, of all tokens and of {PROFILED_RETENTION:.0%}."),
    ] = False,
    json_out: Annotated[Path | None, typer.Option(help="Also write the figures to this file.")] = None,
) -> None:
    """Time to first token by stage, at several retentions."""
    measured_size = height_and_width(size) if size else None
    wanted = Wanted(
        numbers(frames, int), numbers(retentions, float), runs, video, measured_size, compile_vision, profiled
    )
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
