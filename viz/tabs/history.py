"""The runs of a visit: one record each, as a table, as files, and as the measured prefill curve."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from typing import Any

from sttm_core.comparison import answer_dict, knobs_used
from sttm_core.methods import METHODS
from sttm_core.settings import RunSettings

from ..files import Files
from ..labels import duration
from ..studio import Column, VideoRef

HISTORY = (
    "question", "method", "all tokens", "merged", "answer", "kept", "τ_S", "τ_T", "TTFT all", "TTFT merged", "faster",
    "video", "frames", "rules",
)  # fmt: skip


def run_record(
    ref: VideoRef,
    question: str,
    settings: RunSettings,
    columns: tuple[Column, Column],
    layer: int,
    seen: Mapping[str, Any],
    max_new_tokens: int,
) -> dict:
    """One run of the visit, JSON-ready: settings, retention, both answers with timings; a failed column is None.

    ``seen`` is what `provenance.run_truth` says of it. `python -m sttm_core ask --from` repeats the run.
    """
    baseline, merged = columns
    plan = merged.plan
    used = settings.as_dict() | knobs_used(plan.method) | {"merge_layer": layer}
    return {
        "video": ref.name,
        "video_sha256": ref.content_hash,
        "question": question,
        **seen,
        "typed": {"limits": {"runs": max(1, len(merged.runs)), "max_new_tokens": max_new_tokens}},
        "settings": used,
        "retention": plan.retention,
        "tokens": {"all": plan.num_patches, "kept": plan.num_tokens},
        "baseline": _column_record(baseline),
        "merged": _column_record(merged),
    }


def history_row(run: dict) -> list:
    """One line of the table, in the order of `HISTORY`."""
    left, right, settings = run["baseline"], run["merged"], run["settings"]
    both, method = left and right, METHODS[settings["method"]].title
    taus = [f"{settings[name]:.4g}" if name in settings else "" for name in ("tau_spatial", "tau_temporal")]
    return [
        run["question"], method, left["text"] if left else "(failed)", right["text"] if right else "(failed)",
        ("same" if left["text"] == right["text"] else "changed") if both else "",
        f"{run['retention']:.1%}", *taus,
        duration(left["ttft_s"]) if left else "", duration(right["ttft_s"]) if right else "",
        f"×{left['ttft_s'] / right['ttft_s']:.2f}" if both else "",
        run["video"], len(run["frames"]["indices"]), settings.get("rules", ""),
    ]  # fmt: skip


def write_history(runs: list[dict], files: Files) -> tuple[str, str]:
    """New ``runs.csv`` and ``runs.json``; a spreadsheet will not take a cell for a formula."""
    as_csv, as_json = files.new("runs.csv"), files.new("runs.json")
    as_json.write_text(json.dumps(runs, indent=1, ensure_ascii=False), encoding="utf-8")
    with as_csv.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(HISTORY)
        writer.writerows([_no_formula(cell) for cell in history_row(run)] for run in reversed(runs))
    return str(as_csv), str(as_json)


def prefill_curve(runs: list[dict], ref: VideoRef, layer: int) -> dict[str, list[float]] | None:
    """Measured ``{"tokens", "seconds"}`` of this video's prefill at this layer, ascending; None below two points."""
    points = {}
    for run in runs:
        if (run["video_sha256"], len(run["frames"]["indices"]), run["settings"]["merge_layer"]) == (
            ref.content_hash, ref.num_frames, layer,
        ):  # fmt: skip
            for column, tokens in (("baseline", "all"), ("merged", "kept")):
                if run[column]:
                    points[run["tokens"][tokens]] = run[column]["timings_s"]["prefill"]
    if len(points) < 2:
        return None
    tokens, seconds = zip(*sorted(points.items()), strict=True)
    return {"tokens": list(tokens), "seconds": list(seconds)}


def _column_record(column: Column) -> dict | None:
    if column.answer is None or column.error:
        return None
    record = answer_dict(column.answer)
    timings = column.timings
    return record | {"ttft_s": timings.ttft, "timings_s": timings.as_dict(), "runs": max(1, len(column.runs))}


def _no_formula(cell):
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell
