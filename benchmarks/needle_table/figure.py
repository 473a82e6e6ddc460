"""Right answers against tokens kept, a curve for each method (Matplotlib)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.needle_table.rows import FULL
from benchmarks.needle_table.tuning import TUNED
from viz.palette import CHAINS, Theme, theme

STYLE = {"svg.fonttype": "none", "svg.hashsalt": "benchmarks", "font.size": 8, "font.family": "sans-serif"}
MARKERS = "osD^v<>Ph*Xp"
OTHERS = [color for color in CHAINS if color not in ("#F0E442", "#0072B2", "#56B4E9")]  # too light, or like the accent


def write_figure(report: dict[str, Any], stem: Path) -> list[Path]:
    """``stem-light.svg`` and ``stem-dark.svg``, the same for the same numbers."""
    made = []
    for background in ("light", "dark"):
        path = stem.with_name(f"{stem.name}-{background}.svg")
        with matplotlib.rc_context(STYLE):
            figure = accuracy_figure(report["rows"], theme(background == "dark"))
            figure.savefig(path, transparent=True, metadata={"Date": None})
        made.append(path)
    return made


def accuracy_figure(rows: Sequence[dict[str, Any]], colors: Theme) -> Figure:
    """Points with 95% intervals at what was really kept; the full video is a line across."""
    figure = Figure(figsize=(8.6, 4.6), layout="constrained", facecolor="none")
    axis = figure.subplots()
    labels = list(dict.fromkeys(row["label"] for row in rows if row["label"] != FULL))
    for place, label in enumerate(labels):
        _curve(axis, [row for row in rows if row["label"] == label], _color(label, place, colors), place)
    for row in rows:
        if row["label"] == FULL:
            axis.axhline(row["overall"]["accuracy"], color=colors.muted, linewidth=1, linestyle=":", label=FULL)
    axis.set_facecolor("none")
    axis.set_xlabel("video tokens kept", color=colors.muted)
    axis.set_ylabel("right answers about needles", color=colors.muted)
    axis.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axis.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axis.set_xlim(left=0)
    axis.tick_params(colors=colors.muted)
    axis.grid(color=colors.grid, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(colors.grid)
    figure.legend(loc="outside right center", frameon=False, labelcolor=colors.text)
    return figure


def _curve(axis, rows: Sequence[dict[str, Any]], color: str, place: int) -> None:
    rows = sorted(rows, key=lambda row: row["kept"])
    shares = [row["overall"]["accuracy"] for row in rows]
    below = [max(0.0, share - row["overall"]["low"]) for share, row in zip(shares, rows, strict=True)]
    above = [max(0.0, row["overall"]["high"] - share) for share, row in zip(shares, rows, strict=True)]
    axis.errorbar(
        [row["kept"] for row in rows], shares, yerr=[below, above], label=rows[0]["label"], color=color,
        marker=MARKERS[place % len(MARKERS)], markersize=4.5, linewidth=1.4, elinewidth=0.7, capsize=2,
        linestyle="--" if rows[0]["label"] == TUNED else "-",
    )  # fmt: skip


def _color(label: str, place: int, colors: Theme) -> str:
    return colors.accent if label.startswith("STTM") else OTHERS[place % len(OTHERS)]
