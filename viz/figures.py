"""Matplotlib figures for papers: frames, partition and chains; time to first token by stage.

Figures are made with the object-oriented interface alone, so that threads of a server never share state. Save with
``figure.savefig("merge.pdf")`` (or ``.png``, ``.svg``); boxes and text stay vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from sttm_core import MergePlan
from sttm_core.method import Plan

from .canvas import check_frame_index
from .charts import check_timings
from .labels import STAGE_NAMES, clock, duration, plan_settings
from .overlay import GhostOverlay, check_frames
from .palette import STAGES, chain_colors, ink_on, level_colors, theme
from .pieces import Pieces, plan_pieces

ROWS = ("frames", "quadtree", "chains")  # of STTM
OTHER_ROWS = ("frames", "tokens", "chains")
OTHER_SIZES = ("1 patch", "2 to 4", "5 to 16", "more")
TEXT_WIDTH = 6.9  # inches, two columns of a conference paper


def merge_figure(
    frames: np.ndarray,
    plan: Plan,
    frame_indices: Sequence[int],
    times: Sequence[float] | None = None,
) -> Figure:
    """Chosen frames in columns; in rows the picture, what is kept by size, and what is left with its chains.

    STTM keeps boxes of a quadtree, other methods tokens of some patches. In the last row area merged elsewhere is
    dimmed, what was dropped is hatched, and every chain has its colour (paper figure 1).

    Args:
        frames: ``[T, H, W, 3]`` uint8, all frames of the plan.
        frame_indices: which frames to show, from 0, at least one.
        times: ``[T]`` seconds, true timestamps.

    Raises:
        ValueError: for frames, indices or times that do not fit the plan.
    """
    check_frames(frames, plan, times)
    if not len(frame_indices):
        raise ValueError("frame_indices must name at least one frame.")
    for index in frame_indices:
        check_frame_index(plan, index)
    count, (height, width) = len(frame_indices), frames.shape[1:3]
    column = TEXT_WIDTH / max(count, 2)
    figure = Figure(figsize=(column * count, column * height / width * len(ROWS) + 0.75), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    axes = figure.subplots(len(ROWS), count, squeeze=False)
    for place, index in enumerate(frame_indices):
        _draw_column(axes[:, place], frames[index], plan, index, times)
    is_sttm = isinstance(plan, MergePlan)
    for axis, name in zip(axes[:, 0], ROWS if is_sttm else OTHER_ROWS, strict=True):
        axis.set_ylabel(name, fontsize=8)
    sizes = level_sizes(plan) if is_sttm else OTHER_SIZES
    handles = [
        Patch(facecolor="none", edgecolor=color / 255, linewidth=1.2, label=size)
        for size, color in zip(sizes, level_colors(len(sizes)), strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=7, frameon=False)
    kept = f"{plan.retention:.1%} kept: {plan.num_tokens} of {plan.num_patches} tokens"
    taus = rf"$\tau_S={plan.tau_spatial:g}$, $\tau_T={plan.tau_temporal:g}$" if is_sttm else plan_settings(plan)
    figure.suptitle(f"{kept}, {taus}", fontsize=9)
    return figure


def _draw_column(axes, frame: np.ndarray, plan: Plan, index: int, times) -> None:
    pieces, (_, height, width) = plan_pieces(plan), plan.grid
    ghost = GhostOverlay(min_width=1).annotate(frame, plan, index)
    for axis, picture in zip(axes, (frame, frame, ghost), strict=True):
        axis.imshow(picture, extent=(0, width, height, 0), aspect="auto", interpolation="antialiased")
        axis.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
        axis.set_box_aspect(frame.shape[0] / frame.shape[1])
        axis.spines[:].set_visible(False)
    axes[0].set_title(f"frame {index + 1}" if times is None else clock(float(times[index])), fontsize=8, pad=2)
    axes[-1].set_xlabel(f"{int(plan.tokens_per_frame[index])} kept", fontsize=8, labelpad=2)
    every = np.ones(len(pieces.tokens), dtype=bool)
    _add_pieces(axes[1], pieces, index, every, level_colors(pieces.num_levels)[pieces.levels], fill=0.0)
    chained = pieces.piece_counts[pieces.tokens] >= 2
    _add_pieces(axes[2], pieces, index, chained, chain_colors(pieces.token_boxes)[pieces.tokens], fill=0.18)


def _add_pieces(axis, pieces: Pieces, frame: int, chosen: np.ndarray, colors: np.ndarray, fill: float) -> None:
    """Chosen pieces of a frame, drawn a little inside their borders so that neighbours keep their own colours."""
    inset = 0.06
    boxes, owners = pieces.rectangles(frame, chosen)
    shapes = [
        Rectangle((x0 + inset, y0 + inset), x1 - x0 - 2 * inset, y1 - y0 - 2 * inset)
        for y0, x0, y1, x1 in boxes.tolist()
    ]
    lines = colors[owners] / 255
    shades = [(*color, fill) for color in lines]
    axis.add_collection(PatchCollection(shapes, edgecolors=lines, facecolors=shades, linewidths=0.6))


def level_sizes(plan: MergePlan) -> list[str]:
    """In words how large the boxes of each level of the quadtree are."""
    tree = plan.tree
    sides = [tree.boxes[tree.levels == level] for level in range(tree.num_levels)]
    sizes = [(boxes[:, 2:] - boxes[:, :2]).max(axis=0) for boxes in sides]
    return [f"{rows}×{columns} patches" for rows, columns in sizes]


def ttft_figure(rows: Sequence[Mapping]) -> Figure:
    """Stacked horizontal bars of time to first token by stage, one a row, on one scale.

    Args:
        rows: each with ``label`` and ``timings`` (seconds by stage), and optionally ``retention`` (0 to 1). The first
            row is the baseline: grey, and the others' ratios refer to it.

    Raises:
        ValueError: for no rows, a missing key, an unknown stage or an impossible time.
    """
    timings = _row_timings(rows)
    figure = Figure(figsize=(TEXT_WIDTH * 0.75, 0.85 + 0.36 * len(rows)), layout="constrained")
    axis, colors = figure.subplots(), theme(dark=False)
    totals = [sum(stages.values()) for stages in timings]
    longest = max(max(totals), 1e-9)
    for place, stages in enumerate(timings):
        shades = colors.accent_stages if place else colors.baseline_stages
        _stack(axis, place, stages, shades, longest)
        axis.text(totals[place] + longest * 0.012, place, _total(totals, place), va="center", fontsize=8)
    axis.set_yticks(range(len(rows)), [_row_label(row) for row in rows], fontsize=8)
    axis.set(ylim=(len(rows) - 0.45, -0.55), xlim=(0, longest * 1.25))
    axis.set_xlabel("time to first token (s)", fontsize=8)
    axis.tick_params(axis="x", labelsize=7)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    handles = [
        Patch(facecolor=shade, label=STAGE_NAMES[stage])
        for stage, shade in zip(STAGES, colors.baseline_stages, strict=True)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(STAGES), fontsize=7, frameon=False)
    return figure


def _stack(axis, place: int, stages: dict[str, float], shades: Sequence[str], longest: float) -> None:
    left = 0.0
    for stage, shade in zip(STAGES, shades, strict=True):
        seconds = stages[stage]
        axis.barh(place, seconds, left=left, height=0.62, color=shade, edgecolor="white", linewidth=0.5)
        if seconds > longest * 0.09:
            middle = left + seconds / 2
            axis.text(middle, place, duration(seconds), ha="center", va="center", fontsize=7, color=ink_on(shade))
        left += seconds


def _total(totals: Sequence[float], place: int) -> str:
    ratio = f"  ({totals[0] / totals[place]:.2f}×)" if place and totals[place] and totals[0] else ""
    return f"{duration(totals[place])}{ratio}"


def _row_label(row: Mapping) -> str:
    return f"{row['label']}, {row['retention']:.0%}" if "retention" in row else str(row["label"])


def _row_timings(rows: Sequence[Mapping]) -> list[dict[str, float]]:
    if not rows:
        raise ValueError("rows must hold at least the baseline.")
    for row in rows:
        missing = [key for key in ("label", "timings") if key not in row]
        if missing:
            raise ValueError(f"every row needs {missing[0]!r}, got only {', '.join(map(str, row))}.")
    return [check_timings(row["timings"]) for row in rows]
