"""Every colour of the product, in one place: overlays, charts, figures and the inspector use these and no others.

Baseline is always grey and merged always the accent. Quadtree levels are a sequential ramp (the finest level is the
lightest), chains a qualitative set; both stay apart under the common colour vision deficiencies. A chain's colour is
hashed from its representative, so that it is the same in every frame and survives a move of the thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVELS = ("#FDE725", "#7AD151", "#22A884", "#2A788E")  # viridis, finest to coarsest, lightness falls
CHAINS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")  # Okabe and Ito, without black
HEAT = ("#000004", "#57106E", "#BC3754", "#F98E09", "#FCFFA4")  # inferno, few patches a token to many
STAGES = ("decode", "vision", "merge", "prefill", "first_token")  # in the order in which they happen


@dataclass(frozen=True)
class Theme:
    """Colours of text, lines and the two columns on one background; `*_stages` has one shade for each of `STAGES`."""

    text: str
    muted: str
    grid: str
    surface: str
    baseline: str
    accent: str
    baseline_stages: tuple[str, ...]
    accent_stages: tuple[str, ...]


LIGHT = Theme(
    text="#1C2330",
    muted="#5B6472",
    grid="#DFE3E9",
    surface="#FFFFFF",
    baseline="#7A8290",
    accent="#2457D6",
    baseline_stages=("#D3D7DE", "#A5ACB8", "#525A67", "#7A8290", "#BCC2CB"),
    accent_stages=("#C9D7FA", "#86A7F2", "#12307F", "#2457D6", "#A9C0F6"),
)
DARK = Theme(
    text="#E6EAF0",
    muted="#9AA4B2",
    grid="#343B47",
    surface="#14171C",
    baseline="#8E97A5",
    accent="#6E9BFF",
    baseline_stages=("#4A515D", "#6B7482", "#D5DAE2", "#98A1AF", "#5A626F"),
    accent_stages=("#2A3F78", "#3F63BD", "#D3E0FF", "#6E9BFF", "#34509A"),
)


def theme(dark: bool = False) -> Theme:
    """The colours for a light or a dark background."""
    return DARK if dark else LIGHT


def rgb(color: str) -> tuple[int, int, int]:
    """``"#RRGGBB"`` as three integers from 0 to 255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def ink_on(color: str) -> str:
    """Near-black or white, whichever has the higher contrast (WCAG 2) on ``color``."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in rgb(color))]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#FFFFFF" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.058 else "#11151C"


def level_colors(num_levels: int) -> np.ndarray:
    """``[num_levels, 3]`` uint8: colour of each quadtree level; levels beyond the fourth share its colour."""
    ramp = np.array([rgb(color) for color in LEVELS], dtype=np.uint8)
    return ramp[np.minimum(np.arange(num_levels), len(ramp) - 1)]


def chain_slots(t: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Index into `CHAINS` of the chains whose representatives have these frames and top-left patches.

    A linear hash and not a random one: boxes side by side, one, two or four patches apart along an axis or a diagonal,
    and chains that begin in consecutive frames at one place, always differ.
    """
    return (6 * np.asarray(t) + np.asarray(y) + 4 * np.asarray(x)) % len(CHAINS)


def chain_colors(boxes: np.ndarray) -> np.ndarray:
    """``[N, 3]`` uint8: colour of each token, from its representative's box ``[N, 5]`` (t, y0, x0, y1, x1)."""
    ramp = np.array([rgb(color) for color in CHAINS], dtype=np.uint8)
    boxes = np.atleast_1d(boxes).reshape(-1, 5)
    return ramp[chain_slots(boxes[:, 0], boxes[:, 1], boxes[:, 2])]


def heat_colors(values: np.ndarray) -> np.ndarray:
    """``[..., 3]`` uint8: the `HEAT` ramp at ``values`` from 0 to 1."""
    ramp = np.array([rgb(color) for color in HEAT], dtype=np.float64)
    stops = np.linspace(0, 1, len(ramp))
    return np.stack([np.interp(values, stops, ramp[:, c]) for c in range(3)], axis=-1).round().astype(np.uint8)
