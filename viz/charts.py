"""Plotly charts: tokens kept per frame, where TTFT goes, retention over both thresholds.

Backgrounds are transparent and fonts are the page's own, so that a chart sits in the app, an export or a notebook;
``dark`` picks the ink. Every chart reads at 390 px. In Gradio show them with ``show_label=False``: a label makes it
reserve 100 px above the title.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from sttm_core.method import Plan

from .labels import STAGE_NAMES, check_times, clock, duration
from .palette import CHAINS, STAGES, ink_on, theme

COLUMNS = ("All tokens", "Merged")
FONT = "inherit"
TICKS = 6  # time labels that fit at 390 px


def chart_template(dark: bool = False) -> go.layout.Template:
    """Ink, grid and margins that all charts share."""
    colors = theme(dark)
    axis = dict(
        gridcolor=colors.grid, linecolor=colors.grid, zerolinecolor=colors.grid, tickcolor=colors.grid, automargin=True,
        title=dict(font=dict(color=colors.muted, size=12), standoff=8), tickfont=dict(color=colors.muted, size=11),
    )  # fmt: skip
    return go.layout.Template(
        layout=dict(
            font=dict(family=FONT, color=colors.text, size=12),
            title=dict(x=0, xref="container", xanchor="left", pad=dict(l=12), font=dict(size=15, color=colors.text)),
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            margin=dict(l=12, r=12, t=52, b=12),
            xaxis=axis,
            yaxis=axis,
            colorway=list(CHAINS),
            legend=dict(orientation="h", x=0, y=-0.22, yanchor="top", font=dict(size=11, color=colors.muted)),
            hoverlabel=dict(bgcolor=colors.surface, bordercolor=colors.grid, font=dict(family=FONT, color=colors.text)),
        )
    )


def retention_per_frame(plan: Plan, times: Sequence[float] | None = None, *, dark: bool = False) -> go.Figure:
    """Bars of the tokens that each frame keeps; scene cuts stand out as peaks.

    Args:
        times: ``[T]`` seconds, true timestamps; frame numbers are shown if left out.

    Raises:
        ValueError: if there is not one time for each frame.
    """
    check_times(times, plan.num_frames)
    kept, patches, colors = plan.tokens_per_frame.tolist(), plan.num_patches // plan.num_frames, theme(dark)
    frames = list(range(1, plan.num_frames + 1))
    when = [f"frame {n}" if times is None else f"frame {n}, {clock(float(times[n - 1]))}" for n in frames]
    bars = go.Bar(
        x=frames, y=kept, marker=dict(color=colors.accent, line_width=0), customdata=when, name="kept",
        text=[f"{count / patches:.1%}" for count in kept], textposition="none",
        hovertemplate="%{customdata}<br><b>%{y}</b> of " + str(patches) + " kept (%{text})<extra></extra>",
    )  # fmt: skip
    mean = plan.num_tokens / plan.num_frames
    title = f"{plan.retention:.1%} kept: {plan.num_tokens} of {plan.num_patches} tokens"
    figure = _figure(f"{title}<br><sup>{mean:.1f} a frame (dotted), {min(kept)} to {max(kept)}</sup>", dark, 250)
    figure.add_trace(bars)
    figure.add_hline(y=mean, line=dict(color=colors.muted, width=1, dash="dot"))
    shown = frames[:: max(1, math.ceil(plan.num_frames / TICKS))]
    labels = [str(n) if times is None else clock(float(times[n - 1])) for n in shown]
    figure.update_xaxes(
        tickvals=shown, ticktext=labels, title_text="frame" if times is None else "time", showgrid=False
    )
    figure.update_yaxes(title_text="tokens kept", rangemode="tozero")
    return figure.update_layout(bargap=0.15, showlegend=False)


def ttft_bars(
    baseline_timings: Mapping[str, float],
    merged_timings: Mapping[str, float],
    *,
    predicted: bool = False,
    dark: bool = False,
) -> go.Figure:
    """Time to first token of both columns as stacked bars on one scale: baseline grey on top, merged in the accent.

    Args:
        baseline_timings, merged_timings: seconds by stage, of decode, vision, merge, prefill, first_token; absent is 0.
        predicted: the merged timings were not measured; hatched, and the title says so.

    Raises:
        ValueError: for an unknown stage, or a time that is negative or not finite.
    """
    columns = [check_timings(baseline_timings), check_timings(merged_timings)]
    full, short = (sum(timings.values()) for timings in columns)
    figure = _figure(_ttft_title(full, short, predicted), dark, 240)
    colors = theme(dark)
    for index, stage in enumerate(STAGES):
        seconds = [timings[stage] for timings in columns]
        shades = [colors.baseline_stages[index], colors.accent_stages[index]]
        figure.add_trace(_stage_bar(stage, seconds, shades, predicted, colors))
    for column, total in zip(COLUMNS, (full, short), strict=True):
        figure.add_annotation(
            x=total, y=column, text=f"<b>{duration(total)}</b>", showarrow=False, xanchor="left", xshift=6,
            font=dict(size=13, color=colors.text),
        )  # fmt: skip
    figure.update_xaxes(range=[0, max(full, short, 1e-9) * 1.2], ticksuffix=" s", showgrid=True)
    figure.update_yaxes(autorange="reversed", tickfont=dict(size=12, color=colors.text))
    return figure.update_layout(
        barmode="stack", bargap=0.3, legend_traceorder="normal", uniformtext=dict(mode="hide", minsize=10)
    )


def _stage_bar(stage: str, seconds: list[float], shades: list[str], predicted: bool, colors) -> go.Bar:
    hatch = ["", "/" if predicted else ""]
    return go.Bar(
        x=seconds, y=list(COLUMNS), orientation="h", name=STAGE_NAMES[stage],
        marker=dict(
            color=shades, line=dict(color=colors.surface, width=1),
            pattern=dict(shape=hatch, fillmode="overlay", fgcolor=colors.surface, fgopacity=0.45),
        ),
        text=[duration(value) for value in seconds], textposition="inside", insidetextanchor="middle", textangle=0,
        constraintext="inside", textfont=dict(size=11, color=[ink_on(shade) for shade in shades]),
        hovertemplate="%{y}<br>" + STAGE_NAMES[stage] + " <b>%{text}</b><extra></extra>",
    )  # fmt: skip


def _ttft_title(full: float, short: float, predicted: bool) -> str:
    numbers = f"{duration(full)} → {duration(short)}" + (" (predicted)" if predicted else "")
    if not short or not full:
        return f"First token: {numbers}"
    ratio = full / short
    words = f"{ratio:.2f}× faster" if ratio >= 1 else f"{1 / ratio:.2f}× slower"
    return f"First token {words}<br><sup>{numbers}</sup>"


def check_timings(timings: Mapping[str, float]) -> dict[str, float]:
    """Seconds of all of `STAGES`, 0 where absent; ValueError for an unknown stage or an impossible time."""
    unknown = sorted(set(timings) - set(STAGES))
    if unknown:
        raise ValueError(f"timings hold the unknown stage {unknown[0]!r}; use {', '.join(STAGES)}.")
    for stage, seconds in timings.items():
        if not math.isfinite(seconds) or seconds < 0:
            raise ValueError(f"timings of {stage} must be 0 or more seconds, got {seconds!r}.")
    return {stage: float(timings.get(stage, 0.0)) for stage in STAGES}


def retention_surface_chart(
    surface: np.ndarray,
    taus_s: Sequence[float],
    taus_t: Sequence[float],
    current: tuple[float, float] | None = None,
    budget: float | None = None,
    *,
    dark: bool = False,
) -> go.Figure:
    """Retention over both thresholds, with the current setting and the curve on which a budget is met.

    Args:
        surface: ``[len(taus_s), len(taus_t)]`` retention, 0 to 1.
        taus_s, taus_t: the thresholds, rising.
        current: (tau_S, tau_T) to mark.
        budget: retention whose curve is drawn.

    Raises:
        ValueError: for a surface that does not match its thresholds, or values outside 0 to 1.
    """
    surface = _check_surface(surface, taus_s, taus_t, budget)
    colors = theme(dark)
    figure = _figure("Tokens kept at each pair of thresholds", dark, 360)
    figure.add_trace(
        go.Heatmap(
            z=surface, x=list(taus_t), y=list(taus_s), zmin=0, zmax=1, colorscale="Viridis", zsmooth=False,
            colorbar=dict(tickformat=".0%", thickness=10, outlinewidth=0, tickfont=dict(color=colors.muted, size=11)),
            hovertemplate="τ<sub>S</sub> %{y:.3g}, τ<sub>T</sub> %{x:.3g}<br><b>%{z:.1%}</b> kept<extra></extra>",
        )
    )  # fmt: skip
    if budget is not None and surface.min() < budget < surface.max():
        figure.add_trace(_iso_curve(surface, taus_s, taus_t, budget))
    if current is not None:
        figure.add_trace(
            go.Scatter(
                x=[current[1]], y=[current[0]], mode="markers", name="now", showlegend=False,
                marker=dict(symbol="circle", size=13, color="#FFFFFF", line=dict(color="#11151C", width=3)),
                hovertemplate="now: τ<sub>S</sub> %{y:.3g}, τ<sub>T</sub> %{x:.3g}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title_text="temporal threshold τ<sub>T</sub>", showgrid=False, zeroline=False)
    figure.update_yaxes(title_text="spatial threshold τ<sub>S</sub>", showgrid=False, zeroline=False)
    return figure


def _iso_curve(surface: np.ndarray, taus_s: Sequence[float], taus_t: Sequence[float], budget: float) -> go.Contour:
    return go.Contour(
        z=surface, x=list(taus_t), y=list(taus_s), name=f"{budget:.0%} kept", showscale=False, hoverinfo="skip",
        contours=dict(
            type="levels", start=budget, end=budget, size=1, coloring="none", showlabels=True, labelformat=".0%",
            labelfont=dict(size=12, color="#FFFFFF", family=FONT),
        ),
        line=dict(color="#FFFFFF", width=2.5), showlegend=False,
    )  # fmt: skip


def _check_surface(surface, taus_s: Sequence[float], taus_t: Sequence[float], budget: float | None) -> np.ndarray:
    surface = np.asarray(surface, dtype=np.float64)
    if surface.shape != (len(taus_s), len(taus_t)) or surface.size == 0:
        raise ValueError(f"surface must be {len(taus_s)} x {len(taus_t)} (tau_S x tau_T), got {list(surface.shape)}.")
    if not ((surface >= 0) & (surface <= 1)).all():
        raise ValueError("surface must hold retentions from 0 to 1.")
    if any((np.diff(taus) <= 0).any() for taus in (taus_s, taus_t)):
        raise ValueError("taus_s and taus_t must rise.")
    if budget is not None and not 0 < budget <= 1:
        raise ValueError(f"budget must be a retention above 0 and at most 1, got {budget!r}.")
    return surface


def _figure(title: str, dark: bool, height: int) -> go.Figure:
    return go.Figure(layout=dict(template=chart_template(dark), title_text=title, height=height))
