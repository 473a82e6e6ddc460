"""Draws the README's figures from the JSON files that the benchmarks wrote: `python -m benchmarks.figures`.

Every JSON file is searched for figures of `benchmarks.ttft` (one panel a file and machine, one bar a frame count and
retention) and of `benchmarks.merge_op` (one panel an input). Keys that are not known are left alone, so that files of
other benchmarks, and benchmarks that measure more, need no change here. Each figure is an SVG for a light background
and one for a dark background, the same for the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from benchmarks.ttft import STAGES
from viz.labels import STAGE_NAMES, duration
from viz.palette import STAGES as SHADED_STAGES
from viz.palette import Theme, ink_on, theme

FOLDER = Path(__file__).parent
WIDTH = 8.6  # inches: as wide as a README
BAR, TITLE = 0.24, 0.62  # inches a bar, and for a panel's title and axis
GROUP_GAP = 0.5  # bars between two frame counts
TITLE_OVER_NAMES = -0.3  # of an axis' width: where a title starts that is wider than a narrow panel's axis
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "benchmarks", "font.size": 8, "font.family": "sans-serif"}
WHOLE, TRANSCRIPTION = "all of it", "pairwise transcription"


@dataclass(frozen=True)
class Found:
    """Figures from one place of a JSON file: ``values`` as measured, ``about`` the machine and the settings."""

    source: str
    about: dict[str, Any]
    values: dict[str, Any]


def find(source: str, value: Any, wanted: set[str], about: dict[str, Any] | None = None) -> Iterator[Found]:
    """Every object in ``value`` that has all ``wanted`` keys, with what the objects around it say about the machine."""
    if isinstance(value, list):
        for part in value:
            yield from find(source, part, wanted, about)
    elif isinstance(value, dict):
        machine = value.get("machine")
        about = {**(about or {}), **(machine if isinstance(machine, dict) else {}), **_plain(value)}
        if wanted <= {key for key, part in value.items() if part is not None}:
            yield Found(source, about, value)
        else:
            for part in value.values():
                yield from find(source, part, wanted, about)


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in value.items() if isinstance(part, str | int | float)}


def read(results: Path, wanted: set[str]) -> list[Found]:
    """What `find` meets in all JSON files of a folder, in the order of their names.

    Raises:
        ValueError: for a file that is no JSON.
    """
    found: list[Found] = []
    for path in sorted(results.glob("*.json")):
        try:
            content = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON: {error}") from error
        found += find(path.name, content, wanted)
    return found


def ttft_figure(rows: Sequence[Found], colors: Theme) -> Figure:
    """Stacked bars of the TTFT by stage: a panel for each file and machine, a bar for each frame count and retention.

    The number at a bar's end is the median TTFT and its ratio to that of all tokens. (Each stage is a median too, so
    that a bar may be a little longer or shorter than that number.)
    """
    panels = _grouped(rows, "model", "device", "dtype")
    figure, axes = _panels([len(panel) + GROUP_GAP * _groups(panel) for panel in panels.values()], 1, colors)
    for axis, (title, panel) in zip(axes, panels.items(), strict=True):
        _draw_ttft(axis, panel, colors)
        _decorate(axis, title, colors)
        axis.set_xlabel("seconds from decoded frames to the first token", color=colors.muted)
    handles = [Patch(facecolor=_shade(colors, stage, 1.0), label=STAGE_NAMES.get(stage, stage)) for stage in STAGES]
    _legend(figure, handles, colors)
    return figure


def _groups(panel: Sequence[Found]) -> int:
    return len({row.values["frames"] for row in panel})


def _draw_ttft(axis: Axes, panel: Sequence[Found], colors: Theme) -> None:
    longest = max(row.values["ttft"] for row in panel)
    place, places, names, frames = 0.0, [], [], None
    for row in panel:
        values = row.values
        if frames not in (None, values["frames"]):
            place += GROUP_GAP
        frames = values["frames"]
        _stack(axis, place, values, longest, colors)
        ratio = f" ({values['ttft_ratio']:.2f}×)" if "ttft_ratio" in values and values["retention"] < 1 else ""
        _note(axis, _bar_length(values), place, f"{duration(values['ttft'])}{ratio}", colors)
        places.append(place)
        method = f", {values['method']}" if values.get("method") else ""
        names.append(f"{frames} frames{method}, {values['retention']:.0%} kept")
        place += 1
    axis.set_yticks(places, names)
    axis.set(ylim=(place - 0.4, -0.6), xlim=(0, longest * 1.2))


def _stack(axis: Axes, place: float, values: dict[str, Any], longest: float, colors: Theme) -> None:
    left = 0.0
    for stage in STAGES:
        seconds, shade = values.get(stage, 0.0), _shade(colors, stage, values["retention"])
        axis.barh(place, seconds, left=left, height=0.74, color=shade, label=stage)
        if seconds > longest * 0.07:
            middle = left + seconds / 2
            axis.text(middle, place, duration(seconds), ha="center", va="center", color=ink_on(shade), fontsize=7)
        left += seconds


def _bar_length(values: dict[str, Any]) -> float:
    return sum(values.get(stage, 0.0) for stage in STAGES)


def _shade(colors: Theme, stage: str, retention: float) -> str:
    shades = colors.accent_stages if retention < 1 else colors.baseline_stages
    return dict(zip(SHADED_STAGES, shades, strict=True)).get(stage, colors.muted)


def merge_figure(inputs: Sequence[Found], colors: Theme) -> Figure:
    """Milliseconds a stage on a logarithmic axis, a panel for each input: the floor, our stages, the transcription."""
    inputs = sorted(inputs, key=lambda row: (row.about.get("device", ""), row.about["frames"]))
    figure, axes = _panels([1 + len(row.values["stages"]) for row in inputs], 2, colors)
    times = [ms for row in inputs for _, ms in merge_times(row)]
    limits = min(times) / 1.6, max(times) * 4  # room for the numbers at the right
    for axis, row in zip(axes, inputs, strict=True):
        _draw_merge(axis, row, limits, colors)
        _decorate(axis, f"{_input_name(row)}\n{row.about.get('device', '')} ({row.source})", colors, TITLE_OVER_NAMES)
    return figure


def merge_times(row: Found) -> list[tuple[str, float]]:
    """Names and median milliseconds of what was timed for one input, the floor first."""
    stages = [(name, times["median_ms"]) for name, times in row.values["stages"].items()]
    return [("floor", row.values["floor_ms"]), *stages]


def _draw_merge(axis: Axes, row: Found, limits: tuple[float, float], colors: Theme) -> None:
    names, times = zip(*merge_times(row), strict=True)
    dots = [_dot(name, colors) for name in names]
    axis.axvline(times[0], color=colors.muted, linewidth=0.8, linestyle=":")
    axis.hlines(range(len(names)), limits[0], times, colors=colors.grid, linewidth=1)
    axis.scatter(times, range(len(names)), color=dots, s=26, zorder=3)
    for place, ms in enumerate(times):
        _note(axis, ms, place, duration(ms / 1e3) if ms >= 1 else f"{ms:.2f} ms", colors)
    axis.set_xscale("log")
    axis.set(xlim=limits, ylim=(len(names) - 0.5, -0.5))
    axis.set_yticks(range(len(names)), ["floor: read and write once", *names[1:]])
    axis.xaxis.set_major_locator(LogLocator(numticks=6))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_formatter(lambda ms, _: f"{ms:g} ms")


def _dot(name: str, colors: Theme) -> str:
    known = {"floor": colors.muted, WHOLE: colors.accent, TRANSCRIPTION: colors.baseline}
    return known.get(name, colors.accent_stages[1])


def _input_name(row: Found) -> str:
    about = row.about
    return f"{about['frames']} frames of {about['grid']}, {about['channels']} channels, {about['dtype']}"


def _grouped(rows: Sequence[Found], *keys: str) -> dict[str, list[Found]]:
    """The rows by file and by these keys of the machine; the name of a group says both."""
    groups: dict[str, list[Found]] = {}
    for row in rows:
        machine = ", ".join(str(row.about[key]) for key in keys if key in row.about)
        groups.setdefault(f"{machine} ({row.source})", []).append(row)
    return groups


def _note(axis: Axes, x: float, y: float, text: str, colors: Theme) -> None:
    axis.annotate(text, (x, y), (5, 0), textcoords="offset points", va="center", color=colors.text)


def _panels(bars: Sequence[float], columns: int, colors: Theme) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each number of bars, as many as fit side by side in a line."""
    columns = min(columns, len(bars))
    lines = [max(bars[start : start + columns]) for start in range(0, len(bars), columns)]
    heights = [BAR * bars_in_line + TITLE for bars_in_line in lines]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.4), layout="constrained", facecolor="none")
    axes = figure.subplots(len(lines), columns, squeeze=False, height_ratios=heights).ravel().tolist()
    for unused in axes[len(bars) :]:
        unused.set_axis_off()
    return figure, axes[: len(bars)]


def _decorate(axis: Axes, title: str, colors: Theme, title_at: float = 0.0) -> None:
    axis.set_facecolor("none")
    axis.set_title(title, loc="left", x=title_at, color=colors.text, fontsize=9)
    axis.tick_params(colors=colors.muted, length=0)
    axis.tick_params(axis="y", labelcolor=colors.text)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(colors.grid)


def _legend(figure: Figure, handles: list[Patch], colors: Theme) -> None:
    figure.legend(
        handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, labelcolor=colors.text
    )


FIGURES = {  # file: keys of what it draws, function
    "ttft": ({"ttft", "frames", "retention"}, ttft_figure),
    "merge-op": ({"stages", "floor_ms"}, merge_figure),
}


def draw(
    results: Annotated[Path, typer.Option(help="Folder of JSON files.")] = FOLDER / "results",
    out: Annotated[Path, typer.Option(help="Folder for the figures.")] = FOLDER / "figures",
) -> None:
    """Draw every figure that the JSON files have numbers for, for light and dark backgrounds."""
    out.mkdir(parents=True, exist_ok=True)
    for name, (wanted, figure_of) in FIGURES.items():
        rows = read(results, wanted)
        if not rows:
            print(f"no numbers for {name} in {results}")
            continue
        for background in ("light", "dark"):
            path = out / f"{name}-{background}.svg"
            with matplotlib.rc_context(STYLE):
                figure = figure_of(rows, theme(background == "dark"))
                figure.savefig(path, transparent=True, metadata={"Date": None})
            print(path)


if __name__ == "__main__":
    typer.run(draw)
