"""How long merging takes, stage by stage, against the floor of the memory and a plain transcription of the method.

python -m benchmarks.merge_op --frames 128 --grid 14x14 --channels 3584 --dtype bfloat16 --json-out merge_op.json
python -m benchmarks.merge_op --all --json-out merge_op.json    (every case of the GPU targets)
python -m benchmarks.merge_op --tune                            (settings of the kernels, on a GPU)
python -m benchmarks.merge_op --frames 128 --channels 3584 --dtype bfloat16 --method all    (the methods beside STTM)
"""

from __future__ import annotations

import gc
import json
import platform
import statistics
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch.profiler import ProfilerActivity, profile

from benchmarks.merge_cases import CASES, DTYPES, Case, drifting_video
from benchmarks.merge_check import compare_devices, count_flips, crisp_video
from benchmarks.method_cost import ON_TOKENS, cost_table, costs
from benchmarks.transcription import merge_pairwise
from sttm_core import Quadtree, merge_tokens, similarity_tables, thresholds_for_retention
from sttm_core.methods.sttm.dispatch import kernels_for
from sttm_core.methods.sttm.similarity import unchecked_tables

MIB = 2**20
ROTATED_BYTES = 256 * MIB  # inputs taken in turn add up to more than any cache holds
WARM_UP = 3
SLOW_RUNS = 7  # of what is only there for comparison
CHECKED_GRIDS = ((14, 14, 1), (20, 36, 1), (27, 27, 1), (24, 24, 0), (27, 27, 0), (64, 64, 1))  # and root levels


def rotated(tokens: torch.Tensor) -> list[torch.Tensor]:
    """Copies to take in turn on a GPU, so that no run finds its input in the cache."""
    copies = 1 if tokens.device.type == "cpu" else 1 + -(-ROTATED_BYTES // tokens.nbytes)
    return [tokens, *(tokens.clone() for _ in range(copies - 1))]


def waits(device: torch.device) -> Callable[[], None]:
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def milliseconds(work: Callable[[torch.Tensor], object], inputs: Sequence[torch.Tensor], runs: int) -> dict[str, float]:
    """Median, fastest and slowest of ``runs`` calls on inputs in turn, after some that do not count.

    Python's collector of cyclic garbage is off meanwhile, as in `timeit`.
    """
    wait, spent = waits(inputs[0].device), []
    gc.collect()
    gc.disable()
    try:
        for run, tokens in zip(range(runs + WARM_UP), cycle(inputs)):  # noqa: B905
            wait()
            begin = time.perf_counter()
            work(tokens)
            wait()
            if run >= WARM_UP:
                spent.append(1e3 * (time.perf_counter() - begin))
    finally:
        gc.enable()
    return {"median_ms": statistics.median(spent), "min_ms": min(spent), "max_ms": max(spent), "runs": runs}


def extra_memory(work: Callable[[], object], device: torch.device) -> float | None:
    """MiB allocated at the peak beyond what was there before; None where the device does not say."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = work()
    torch.cuda.synchronize()
    del result
    return (torch.cuda.max_memory_allocated() - before) / MIB


def launches(work: Callable[[], object], device: torch.device) -> dict[str, float] | None:
    """What a GPU was asked to do: kernels and copies, those that the host waited for, and time that it was busy."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        work()
        torch.cuda.synchronize()
    on_gpu = [event for event in recorded.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    by_name: Counter[str] = Counter()
    for event in on_gpu:
        by_name[event.name[:60]] += event.device_time
    return {
        "launches": len(on_gpu),
        "host_waits": sum("DtoH" in event.name for event in on_gpu),
        "busy_ms": sum(event.device_time for event in on_gpu) / 1e3,
        "by_name_us": {name: round(spent, 1) for name, spent in by_name.most_common()},
    }


def copy_bandwidth(tokens: torch.Tensor, runs: int) -> float:
    """Bytes per second, read and written, of a plain copy as large as the features."""
    target = torch.empty_like(tokens)
    best = milliseconds(lambda features: target.copy_(features), [tokens], runs)["min_ms"]
    return 2 * tokens.nbytes / (best / 1e3)


def counted_work(tokens: torch.Tensor, tree: Quadtree, kept: int) -> dict[str, float]:
    """Bytes that must move (read once, write once), those of two passes, and multiply-adds of the Gram matrices x 2."""
    frames, channels = tokens.shape[0], tokens.shape[-1]
    cells, patches = tree.cells.patches.shape
    grams = (2 * frames - 1) * cells * patches * patches
    written = kept * channels * tokens.element_size()
    tables = 4 * (frames * tree.num_internal + (frames - 1) * len(tree.pairs))
    return {
        "bytes_floor": tokens.nbytes + written,
        "bytes_two_passes": 2 * tokens.nbytes + written + tables,
        "flops": 2 * grams * channels + 2 * tokens.numel(),
    }


def bench(tokens: torch.Tensor, tree: Quadtree, retention: float, runs: int, pairwise: bool) -> dict:
    """All figures of one input."""
    device, tables = tokens.device, similarity_tables(tokens, tree)
    found = thresholds_for_retention(tables, retention)
    taus = found.tau_spatial, found.tau_temporal
    plan = tables.plan(*taus)
    stages = {
        "tables": lambda features: unchecked_tables(features, tree, "nodes", released=False),
        "checked tables of both rules": lambda features: similarity_tables(features, tree),
        "plan": lambda features: tables.plan(*taus),
        "apply": plan.apply,
        "all of it": lambda features: merge_tokens(features, *taus, root_level=tree.root_level),
    }
    if pairwise:
        stages["pairwise transcription"] = lambda features: merge_pairwise(features, tree, *taus)
    inputs = rotated(tokens)
    rows = {}
    for name, work in stages.items():
        times = milliseconds(work, inputs, min(runs, SLOW_RUNS) if name.startswith("pairwise") else runs)
        rows[name] = times | {"extra_mib": extra_memory(lambda work=work: work(tokens), device)}
    work, bandwidth = counted_work(tokens, tree, plan.num_tokens), copy_bandwidth(tokens, min(runs, 10))
    floor = 1e3 * work["bytes_floor"] / bandwidth
    whole = rows["all of it"]["median_ms"]
    ratios = {"to_floor": whole / floor}
    if pairwise:
        ratios["pairwise_to_ours"] = rows["pairwise transcription"]["median_ms"] / whole
    return {
        "retention": plan.retention, "tokens": [plan.num_patches, plan.num_tokens], "taus": taus, "stages": rows,
        **work, "copy_bytes_per_s": bandwidth, "floor_ms": floor, "ratios": ratios,
        "gpu": launches(lambda: stages["all of it"](tokens), device),
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
    lines = [f"{'stage':32}{'median':>10}{'fastest':>10}{'slowest':>10}{'extra':>12}"]
    for name, row in result["stages"].items():
        extra = "-" if row["extra_mib"] is None else f"{row['extra_mib']:.0f} MiB"
        times = "".join(f"{row[key]:8.3f}ms" for key in ("median_ms", "min_ms", "max_ms"))
        lines.append(f"{name:32}{times}{extra:>12}")
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
    if result["gpu"]:
        lines.append(
            "{launches} launches and copies, {host_waits} waited for, busy {busy_ms:.3f} ms".format(**result["gpu"])
        )
    return "\n".join(lines)


def grid_of(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() and int(side) for side in sides):
        raise typer.BadParameter(f"{text!r} is no grid; write rows x columns, as in 14x14.")
    return int(sides[0]), int(sides[1])


def measure(case: Case, retention: float, runs: int, pairwise: bool, device: torch.device) -> dict:
    """`bench` of one case on a made-up video, with what was asked for."""
    video = drifting_video(case.frames, case.height, case.width, case.channels, device)
    result = bench(video.to(DTYPES[case.dtype]), case.tree, retention, runs, pairwise)
    about = {"frames": case.frames, "grid": f"{case.height}x{case.width}", "channels": case.channels}
    about |= {"root_level": case.root_level}
    return about | {"dtype": case.dtype, "runs": runs, "must_ms": case.must_ms, "must_mib": case.must_mib} | result


def measure_methods(case: Case, names: Sequence[str], retention: float, runs: int, device: torch.device) -> dict:
    """`costs` of methods on the made-up video of a case, with what was asked for."""
    video = drifting_video(case.frames, case.height, case.width, case.channels, device).to(DTYPES[case.dtype])
    inputs = rotated(video)
    timer, memory = partial(milliseconds, inputs=inputs, runs=runs), partial(extra_memory, device=device)
    return {"case": str(case), "budget": retention, "methods": costs(video, names, retention, timer, memory)}


def guarded(name: str, work: Callable[[], dict], wait: Callable[[], None] = lambda: None) -> dict:
    """What ``work`` returns, or what went wrong, in short."""
    try:
        result = work()
        wait()
        return result
    except Exception as error:  # one part that fails must not hide the others
        last = traceback.extract_tb(error.__traceback__)[-3:]
        where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in last]
        print(f"{name} FAILED: {type(error).__name__}: {str(error)[:400]} ({' < '.join(reversed(where))})", flush=True)
        return {"error": f"{type(error).__name__}: {error}"[:2000], "where": where}


def summary(results: dict[str, dict]) -> str:
    """One line a case: stages, memory, the transcription, the floor, and whether the promise is kept."""
    head = ("case", "tables", "plan", "apply", "all", "slowest", "MiB", "pairwise", "MiB", "floor", "x", "busy", "n")
    lines = [f"{head[0]:32}" + "".join(f"{name:>9}" for name in head[1:])]
    for name, result in results.items():
        if "error" in result:
            lines.append(f"{name:32} failed: {result['error'][:80]}")
            continue
        rows, gpu = result["stages"], result["gpu"] or {"busy_ms": float("nan"), "launches": 0}
        whole, pairwise = rows["all of it"], rows.get("pairwise transcription", {})
        cells = [rows[stage]["median_ms"] for stage in ("tables", "plan", "apply")]
        cells += [whole["median_ms"], whole["max_ms"], whole["extra_mib"], pairwise.get("median_ms")]
        cells += [pairwise.get("extra_mib"), result["floor_ms"], result["ratios"]["to_floor"], gpu["busy_ms"]]
        texts = [f"{value:9.3f}" if value is not None and value < 100 else f"{value or 0:9.0f}" for value in cells]
        lines.append(f"{name:32}" + "".join(texts) + f"{gpu['launches']:9d}" + verdict(result))
    return "\n".join(lines)


def verdict(result: dict) -> str:
    """Whether time and memory are within what was asked for."""
    whole = result["stages"]["all of it"]
    found = ((whole["median_ms"], result["must_ms"]), (whole["extra_mib"], result["must_mib"]))
    kept = [value <= limit for value, limit in found if limit is not None and value is not None]
    return "" if not kept else "  ok" if all(kept) else "  MISSED"


def checks(device: torch.device) -> dict[str, dict]:
    """Equal plans on this device and on the CPU, and decisions that bfloat16 changes."""
    found = {}
    for height, width, root_level in CHECKED_GRIDS:
        tokens, tree = crisp_video(8, height, width, 512), Quadtree(height, width, root_level)
        for rules in ("paper", "as_released"):
            name = f"check {height}x{width} root {root_level} {rules}"
            found[name] = guarded(name, partial(compare_devices, tokens, tree, rules, device))
            print(name, found[name], flush=True)
    flips = guarded("bfloat16", lambda: count_flips(drifting_video(64, 14, 14, 3584, device), 0.3))
    print("decisions that bfloat16 changes", flips, flush=True)
    return found | {"bfloat16": flips}


def run_all(cases: Sequence[Case], retention: float, runs: int, pairwise: bool, device: torch.device) -> dict:
    """Every case; one that fails is told and the others go on."""
    results = {}
    for case in cases:
        results[str(case)] = guarded(str(case), partial(measure, case, retention, runs, pairwise, device))
        print(f"\n{case}", flush=True)
        if "error" not in results[str(case)]:
            print(table(results[str(case)]), flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return results


def names_of(given: Sequence[str]) -> Sequence[str]:
    """Methods on tokens by their names, or all of them."""
    if unknown := [name for name in given if name not in (*ON_TOKENS, "all")]:
        raise typer.BadParameter(f"there is no method on tokens {unknown[0]!r}; there are {', '.join(ON_TOKENS)}, all.")
    return ON_TOKENS if "all" in given else given


def main(
    frames: Annotated[int, typer.Option(min=1)] = 16,
    grid: Annotated[str, typer.Option(help="Patches a frame, rows x columns.")] = "14x14",
    channels: Annotated[int, typer.Option(min=1)] = 256,
    dtype: Annotated[str, typer.Option(help=", ".join(DTYPES))] = "float32",
    root_level: Annotated[int, typer.Option(min=0, help="How many of the coarsest grids are not used.")] = 1,
    retention: Annotated[float, typer.Option(help="Share of tokens to keep.")] = 0.3,
    runs: Annotated[int, typer.Option(min=1)] = 50,
    pairwise: Annotated[bool, typer.Option(help="Time the pairwise transcription too.")] = True,
    every: Annotated[bool, typer.Option("--all", help="All cases with a target, and checks of the results.")] = False,
    tune: Annotated[bool, typer.Option(help="Try settings of the kernels on a GPU: times and errors.")] = False,
    method: Annotated[
        list[str] | None, typer.Option(help="Time methods beside STTM instead: names, or all; may be repeated.")
    ] = None,
    device: Annotated[str | None, typer.Option(show_default="a GPU if there is one")] = None,
    json_out: Annotated[Path | None, typer.Option("--json-out", "--json", help="Write the figures to a file.")] = None,
) -> None:
    """Milliseconds from features to merged tokens, stage by stage."""
    if dtype not in DTYPES:
        raise typer.BadParameter(f"{dtype!r} is none of {', '.join(DTYPES)}.")
    case = Case(frames, *grid_of(grid), channels, dtype, root_level)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    about = machine(place)
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    if tune:
        from benchmarks.merge_tuning import tune_kernels  # needs Triton

        figures = tune_kernels(place)
    elif method:
        figures = measure_methods(case, names_of(method), retention, runs, place)
        print(f"{case}, a budget of {retention:.0%}\n{cost_table(figures['methods'])}")
    elif every:
        results = run_all(CASES, retention, runs, pairwise, place)
        found = checks(place)
        print(f"\n{summary(results)}")
        figures = {"cases": results, "checks": found}
    else:
        figures = measure(case, retention, runs, pairwise, place)
        print(f"{case}\n{table(figures)}")
    if json_out:
        json_out.write_text(json.dumps(about | figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
