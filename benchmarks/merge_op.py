"""How long merging takes, stage by stage, against the floor of the memory and a plain transcription of the method.

python -m benchmarks.merge_op --frames 128 --grid 14x14 --channels 3584 --dtype bfloat16 --json merge_op.json
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.transcription import merge_pairwise
from sttm_core import Quadtree, merge_tokens, similarity_tables, thresholds_for_retention
from sttm_core.dispatch import kernels_for

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
MIB = 2**20


def drifting_video(frames: int, height: int, width: int, channels: int, device: torch.device) -> torch.Tensor:
    """``[T, H, W, C]`` float32: a coarse scene that drifts, finer detail, a cut every 24 frames."""
    draw = torch.Generator(device).manual_seed(0)
    coarse = torch.randn(1 + frames // 24, -(-height // 4), -(-width // 4), channels, device=device, generator=draw)
    scene = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :height, :width]
    video = torch.empty(frames, height, width, channels, device=device)
    drift = torch.zeros(height, width, channels, device=device)
    for frame in range(frames):
        drift = 0.98 * drift + 0.15 * torch.randn(drift.shape, device=device, generator=draw)
        video[frame] = 0.5 + scene[frame // 24] + drift
    return video


def waits(device: torch.device) -> Callable[[], None]:
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def milliseconds(work: Callable[[], object], runs: int, device: torch.device) -> dict[str, float]:
    """Median, fastest and slowest of ``runs`` calls, after two that do not count."""
    wait, spent = waits(device), []
    for run in range(runs + 2):
        wait()
        begin = time.perf_counter()
        work()
        wait()
        if run > 1:
            spent.append(1e3 * (time.perf_counter() - begin))
    return {"median_ms": statistics.median(spent), "min_ms": min(spent), "max_ms": max(spent)}


def extra_memory(work: Callable[[], object], device: torch.device) -> float | None:
    """MiB allocated at the peak beyond what was there before; None where the device does not say."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / MIB


def copy_bandwidth(tokens: torch.Tensor, runs: int) -> float:
    """Bytes per second, read and written, of a plain copy as large as the features."""
    target = torch.empty_like(tokens)
    best = milliseconds(lambda: target.copy_(tokens), runs, tokens.device)["min_ms"]
    return 2 * tokens.nbytes / (best / 1e3)


def counted_work(tokens: torch.Tensor, tree: Quadtree, kept: int) -> dict[str, float]:
    """Bytes that must move (read once, write once) and that two passes move, and multiply-adds times two."""
    frames, channels = tokens.shape[0], tokens.shape[-1]
    cells, patches = tree.cells.patches.shape
    grams = (2 * frames - 1) * cells * patches * patches
    written = kept * channels * tokens.element_size()
    return {
        "bytes_floor": tokens.nbytes + written,
        "bytes_two_passes": 2 * tokens.nbytes + written + 4 * grams,
        "flops": 2 * grams * channels + 2 * tokens.numel(),
    }


def bench(tokens: torch.Tensor, tree: Quadtree, retention: float, runs: int, pairwise: bool) -> dict:
    """All figures of one input."""
    device, tables = tokens.device, similarity_tables(tokens, tree)
    found = thresholds_for_retention(tables, retention)
    taus = found.tau_spatial, found.tau_temporal
    plan = tables.plan(*taus)
    stages = {
        "tables": lambda: similarity_tables(tokens, tree),
        "plan": lambda: tables.plan(*taus),
        "apply": lambda: plan.apply(tokens),
        "all of it": lambda: merge_tokens(tokens, *taus, root_level=tree.root_level),
    }
    if pairwise:
        stages["pairwise transcription"] = lambda: merge_pairwise(tokens, tree, *taus)
    rows = {
        name: milliseconds(work, runs, device) | {"extra_mib": extra_memory(work, device)}
        for name, work in stages.items()
    }
    work, bandwidth = counted_work(tokens, tree, plan.num_tokens), copy_bandwidth(tokens, runs)
    floor = 1e3 * work["bytes_floor"] / bandwidth
    whole = rows["all of it"]["median_ms"]
    ratios = {"to_floor": whole / floor}
    if pairwise:
        ratios["pairwise_to_ours"] = rows["pairwise transcription"]["median_ms"] / whole
    return {
        "retention": plan.retention, "tokens": [plan.num_patches, plan.num_tokens], "taus": taus, "stages": rows,
        **work, "copy_bytes_per_s": bandwidth, "floor_ms": floor, "ratios": ratios,
    }  # fmt: skip


def machine(device: torch.device) -> dict[str, str | int]:
    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "kernels": "triton" if kernels_for(torch.empty(1, device=device)) else "torch",
    }


def table(result: dict) -> str:
    """What was measured, for people."""
    lines = [f"{'stage':24}{'median':>10}{'fastest':>10}{'slowest':>10}{'extra':>12}"]
    for name, row in result["stages"].items():
        extra = "-" if row["extra_mib"] is None else f"{row['extra_mib']:.0f} MiB"
        times = "".join(f"{row[key]:8.2f}ms" for key in ("median_ms", "min_ms", "max_ms"))
        lines.append(f"{name:24}{times}{extra:>12}")
    before, after = result["tokens"]
    lines += [
        f"{before} tokens -> {after} ({result['retention']:.1%})",
        f"{result['bytes_floor'] / MIB:.1f} MiB to read and write once, {result['bytes_two_passes'] / MIB:.1f} MiB in "
        f"two passes, {result['flops'] / 1e9:.2f} GFLOP",
        f"copying runs at {result['copy_bytes_per_s'] / 1e9:.1f} GB/s: floor {result['floor_ms']:.3f} ms, "
        f"ours takes {result['ratios']['to_floor']:.1f} times that",
    ]
    if "pairwise_to_ours" in result["ratios"]:
        lines.append(
            f"the pairwise transcription takes {result['ratios']['pairwise_to_ours']:.1f} times as long as ours"
        )
    return "\n".join(lines)


def grid_of(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() and int(side) for side in sides):
        raise typer.BadParameter(f"{text!r} is no grid; write rows x columns, as in 14x14.")
    return int(sides[0]), int(sides[1])


def main(
    frames: Annotated[int, typer.Option(min=1)] = 16,
    grid: Annotated[str, typer.Option(help="Patches a frame, rows x columns.")] = "14x14",
    channels: Annotated[int, typer.Option(min=1)] = 256,
    dtype: Annotated[str, typer.Option(help=", ".join(DTYPES))] = "float32",
    retention: Annotated[float, typer.Option(help="Share of tokens to keep.")] = 0.3,
    runs: Annotated[int, typer.Option(min=1)] = 50,
    pairwise: Annotated[bool, typer.Option(help="Time the pairwise transcription too.")] = True,
    device: Annotated[str | None, typer.Option(show_default="a GPU if there is one")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
) -> None:
    """Milliseconds from features to merged tokens, stage by stage."""
    if dtype not in DTYPES:
        raise typer.BadParameter(f"{dtype!r} is none of {', '.join(DTYPES)}.")
    height, width = grid_of(grid)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    tokens = drifting_video(frames, height, width, channels, place).to(DTYPES[dtype])
    about = machine(place) | {"frames": frames, "grid": grid, "channels": channels, "dtype": dtype, "runs": runs}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    result = bench(tokens, Quadtree(height, width), retention, runs, pairwise)
    print(table(result))
    if json_out:
        json_out.write_text(json.dumps(about | result, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
