"""Colours against the standards they claim: colour vision models, contrast, stability."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from viz import palette

DEFICIENCIES = {  # full severity, Machado, Oliveira and Fernandes 2009, on linear RGB
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def as_seen(colors, deficiency: str) -> np.ndarray:
    """``[n, 3]`` CIE L*a*b* of hex colours for an eye with this deficiency."""
    srgb = np.array([palette.rgb(color) for color in colors]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(DEFICIENCIES[deficiency]).T, 0, 1)
    srgb = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(srgb[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0]


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("colors", [palette.LEVELS, palette.CHAINS], ids=["levels", "chains"])
def test_colours_stay_apart(colors, deficiency):
    lab = as_seen(colors, deficiency)
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    assert distances[~np.eye(len(lab), dtype=bool)].min() > 10  # 2.3 is just noticeable


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_ramps_are_ordered_by_lightness(deficiency):
    assert (np.diff(as_seen(palette.LEVELS, deficiency)[:, 0]) < -5).all()
    assert (np.diff(as_seen(palette.HEAT, deficiency)[:, 0]) > 5).all()


@pytest.mark.parametrize("theme", [palette.LIGHT, palette.DARK], ids=["light", "dark"])
def test_text_has_enough_contrast(theme):
    def luminance(color):
        c = np.array(palette.rgb(color)) / 255
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    def contrast(one, other):
        high, low = sorted((luminance(one), luminance(other)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    assert contrast(theme.text, theme.surface) > 7 and contrast(theme.muted, theme.surface) > 4.5
    assert contrast(theme.accent, theme.surface) > 4.5
    for shade in (*theme.baseline_stages, *theme.accent_stages):
        assert contrast(palette.ink_on(shade), shade) > 4.5


def test_chain_slots_separate_neighbours():
    y, x = np.mgrid[0:14, 0:14]
    slots = palette.chain_slots(np.zeros_like(y), y, x)
    for step in (1, 2, 4):
        assert (slots[step:] != slots[:-step]).all() and (slots[:, step:] != slots[:, :-step]).all()
        assert (slots[step:, step:] != slots[:-step, :-step]).all()
        assert (slots[step:, :-step] != slots[:-step, step:]).all()
    assert (palette.chain_slots(np.arange(1, 7), 3, 5) != palette.chain_slots(0, 3, 5)).all()
    assert palette.chain_slots(2, 3, 5) == (6 * 2 + 3 + 4 * 5) % 7


def test_levels_beyond_the_fourth_share_its_colour():
    colors = palette.level_colors(6)
    assert [tuple(c) for c in colors] == [
        palette.rgb(c) for c in (*palette.LEVELS, palette.LEVELS[3], palette.LEVELS[3])
    ]
