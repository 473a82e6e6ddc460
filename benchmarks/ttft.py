"""TTFT by stage, with all tokens and with merged ones: `python -m benchmarks.ttft --help`.

Two uses. `--model PATH [--video CLIP]` times a checkpoint. `--shape NAME` builds that architecture with random weights
on the device, so that a GPU can be timed without downloading anything: the work done does not depend on the weights.

Random weights give similarities that mean nothing, so fixed thresholds would too. The plans come from a retention
instead: `thresholds_for_retention` reads the similarities that the model really computed for the clip before its merge
layer and finds the thresholds at which the wanted share of tokens is left. Tables, plan, averaging and prefill then run
as for any video, and are all in the times. The synthetic clip has still, drifting and changing areas, so that there is
something for both stages to merge. Every stage is measured again in every run, the plans in turn within a run.
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import transformers
import typer

from benchmarks.shapes import SHAPES, random_model
from sttm_core.comparison import MergeSettings, measure
from sttm_core.defaults import SHIPPED_MODEL
from sttm_core.engine import Answer, VideoLLM
from sttm_core.plan import MergePlan
from sttm_core.timing import Timings
from sttm_core.video import VideoClip

QUESTION = "What is shown, and what changes?"
STAGES = ("vision", "merge", "prefill", "first_token")


@dataclass(frozen=True)
class Row:
    """One retention: medians in seconds from decoded frames on, the spread of the TTFT, sizes in bytes.

    ``peak_bytes`` is that of prefill and first token, weights included; the vision encoder's own peak is not in it.
    """

    frames: int
    retention: float
    video_tokens: int
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
    peak_bytes: int | None
    kv_bytes: int


def synthetic_clip(num_frames: int, side: int = 384, seed: int = 0) -> VideoClip:
    """uint8 frames ``[T, side, side, 3]``: a still scene, a strip that drifts, a corner that changes in every frame."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    scene = blocks.repeat(-(-side // 8), 0).repeat(-(-side // 8), 1)[:side, :side]
    frames = np.repeat(scene[None], num_frames, axis=0)  # [T, side, side, 3]
    third = side // 3
    for index, frame in enumerate(frames):
        frame[third : 2 * third] = np.roll(frame[third : 2 * third], 3 * index, axis=1)
        frame[:third, :third] = rng.integers(0, 256, (third, third, 3), dtype=np.uint8)
    return VideoClip.from_frames(frames, name="synthetic")


def bench(llm: VideoLLM, clip: VideoClip, retentions: Sequence[float], runs: int) -> Iterator[Row]:
    """One `Row` a retention, all tokens first: a warm-up of each, then ``runs`` timed runs.

    Raises:
        ValueError: for a retention outside (0, 1] or runs below 1.
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1, got {runs}.")
    wanted = [MergeSettings(retention=share) for share in sorted({1.0, *retentions}, reverse=True)]
    encoded = llm.encode(clip)
    plans = [None if settings.retention == 1 else settings.plan(encoded) for settings in wanted]
    warm = [llm.answer(llm.prefill(encoded, plan), QUESTION, max_new_tokens=1) for plan in plans]
    timings = list(zip(*measure(llm, clip, encoded, plans, QUESTION, wanted[0], runs), strict=True))
    for plan, answer, of in zip(plans, warm, timings, strict=True):
        yield row(clip, encoded.layout.num_patches, plan, answer, of, timings[0])


def ttft(timings: Timings) -> float:
    """Seconds from decoded frames to the first token."""
    return timings.ttft - timings.decode


def row(
    clip: VideoClip,
    num_patches: int,
    plan: MergePlan | None,
    answer: Answer,
    timings: Sequence[Timings],
    baseline: Sequence[Timings],
) -> Row:
    """The figures of one plan; ``baseline`` holds the runs that the ratios refer to."""
    middle, ttfts = Timings.median(timings), [ttft(run) for run in timings]
    median_ttft = statistics.median(ttfts)
    return Row(
        frames=clip.num_frames,
        retention=1.0 if plan is None else plan.retention,
        video_tokens=num_patches if plan is None else plan.num_tokens,
        **{stage: getattr(middle, stage) for stage in STAGES},
        ttft=median_ttft,
        ttft_lowest=min(ttfts),
        ttft_highest=max(ttfts),
        ttft_ratio=statistics.median(map(ttft, baseline)) / median_ttft,
        language_model=middle.language_model,
        language_model_ratio=Timings.median(baseline).language_model / middle.language_model,
        peak_bytes=answer.peak_bytes,
        kv_bytes=answer.kv_bytes,
    )


def table(rows: list[Row]) -> str:
    """The rows as Markdown, milliseconds and megabytes."""
    heads = ("frames", "kept", "tokens", "vision", "merge", "prefill", "first token", "TTFT", "lowest-highest", "ratio")
    heads += ("LM only", "ratio", "peak MB", "KV MB")
    lines = ["| " + " | ".join(heads) + " |", "|" + "---:|" * len(heads)]
    for r in rows:
        stages = [f"{getattr(r, stage) * 1e3:.1f}" for stage in STAGES]
        spread = f"{r.ttft_lowest * 1e3:.0f}-{r.ttft_highest * 1e3:.0f}"
        whole = [f"{r.ttft * 1e3:.1f}", spread, f"{r.ttft_ratio:.2f}"]
        model = [f"{r.language_model * 1e3:.1f}", f"{r.language_model_ratio:.2f}"]
        sizes = ["-" if r.peak_bytes is None else f"{r.peak_bytes / 1e6:.0f}", f"{r.kv_bytes / 1e6:.1f}"]
        cells = [str(r.frames), f"{r.retention:.1%}", str(r.video_tokens), *stages, *whole, *model, *sizes]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


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


def main(
    shape: Annotated[str | None, typer.Option(help=f"Random weights of this shape: {', '.join(SHAPES)}.")] = None,
    model: Annotated[str, typer.Option(help="Or a checkpoint.", show_default="the shipped model")] = str(SHIPPED_MODEL),
    video: Annotated[str | None, typer.Option(help="A clip.", show_default="a synthetic one")] = None,
    frames: Annotated[str, typer.Option(help="Frames, several separated by commas.")] = "16,32",
    retentions: Annotated[
        str, typer.Option(help="Shares of tokens to keep; all tokens are always timed.")
    ] = ".5,.3,.15",
    runs: Annotated[int, typer.Option(min=1)] = 5,
    device: Annotated[str | None, typer.Option(show_default="a GPU if there is one")] = None,
    json_out: Annotated[Path | None, typer.Option(help="Also write the figures to this file.")] = None,
) -> None:
    """Time to first token by stage, at several retentions."""
    shares, counts = numbers(retentions, float), numbers(frames, int)
    llm = random_model(shape, device) if shape else VideoLLM.load(model, device=device)
    rows: list[Row] = []
    for count in counts:
        clip = VideoClip.open(video, count) if video else synthetic_clip(count)
        rows += bench(llm, clip, shares, runs)
    about = machine(llm) | {"clip": Path(video).name if video else "synthetic", "runs": runs}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(table(rows))
    if json_out:
        json_out.write_text(json.dumps({"machine": about, "rows": [asdict(r) for r in rows]}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
