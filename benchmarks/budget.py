"""How near a budget comes to what was asked for, and how long finding its thresholds takes.

`python -m benchmarks.budget`: the shipped model's hidden states on the sample clips, budgets from 5% to 95%: the
largest miss, the time of the slowest search, and of a 20x20 retention surface.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from sttm_core import SimilarityTables, retention_surface, thresholds_for_retention
from sttm_core.advice import SHIPPED_MODEL
from sttm_core.engine import VideoLLM
from sttm_core.video import VideoClip

BUDGETS = np.arange(0.05, 0.96, 0.05)
SURFACE = 20


def milliseconds(work: Callable[[], object], runs: int) -> dict[str, float]:
    """Median and extremes over ``runs`` runs, after one that is not counted."""
    work()
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        taken.append(1e3 * (time.perf_counter() - start))
    return {"median_ms": statistics.median(taken), "lowest_ms": min(taken), "highest_ms": max(taken)}


def misses(tables: SimilarityTables, rules: str) -> list[float]:
    """Percentage points by which each budget is undershot (negative: exceeded)."""
    found = [thresholds_for_retention(tables, float(budget), rules=rules) for budget in BUDGETS]
    return [100 * (result.budget - result.retention) for result in found]


def slowest_search(tables: SimilarityTables, rules: str, runs: int) -> dict[str, float]:
    """The times of the budget that takes longest."""
    budgets = map(float, BUDGETS)
    timed = [milliseconds(lambda b=b: thresholds_for_retention(tables, b, rules=rules), runs) for b in budgets]
    return max(timed, key=lambda times: times["median_ms"])


def main(
    clips: Annotated[Path, typer.Option(help="Folder of videos.")] = SHIPPED_MODEL.parent / "clips",
    frames: Annotated[int, typer.Option(min=2, help="Frames of each clip, at most.")] = 64,
    runs: Annotated[int, typer.Option(min=1)] = 10,
    json_out: Annotated[Path | None, typer.Option(help="Also write the figures to this file.")] = None,
) -> None:
    """Accuracy and speed of budgets."""
    llm, rows = VideoLLM.load(str(SHIPPED_MODEL), dtype="float32"), []
    print("| clip | frames | rules | largest miss, points | slowest search | surface 20x20 |")
    print("|---|---:|---|---:|---:|---:|")
    for path in sorted(clips.glob("*.mp4")):
        tables = llm.encode(VideoClip.open(path, frames)).tables
        axis = np.linspace(float(tables.child_min.min()), 1.0, SURFACE)
        for rules in ("paper", "as_released"):
            worst = max(misses(tables, rules), key=abs)
            search = slowest_search(tables, rules, runs)
            surface = milliseconds(lambda t=tables, r=rules, a=axis: retention_surface(t, a, a, rules=r), 3)
            rows.append({"clip": path.stem, "frames": tables.num_frames, "rules": rules, "largest_miss": worst,
                         "search": search, "surface": surface})  # fmt: skip
            print(
                f"| {path.stem} | {tables.num_frames} | {rules} | {worst:.2f} | {search['median_ms']:.1f} ms "
                f"| {surface['median_ms']:.0f} ms |", flush=True,
            )  # fmt: skip
    if json_out:
        json_out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
