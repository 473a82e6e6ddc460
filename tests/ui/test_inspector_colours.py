"""Chains and heat have the same colours in the browser as in the pictures and figures that Python draws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sttm_core.video import VideoClip
from tests.ui.inspected import GET, inspector_data, write_page
from viz import palette
from viz.inspector.bundle import script
from viz.overlay import heat_limit

CLIP = Path(__file__).parents[2] / "assets" / "clips" / "code-bunny.mp4"
SLOTS = "boxes => boxes.map(([t, y, x]) => chainColour(chainSlot(t, y, x)))"
HEAT = "shares => shares.map((share) => heatPixel(share))"
DRAWN = f"""([spatial, temporal]) => {{
  const {{planner, painter}} = {GET};
  planner.run(spatial, temporal, "paper");
  const tokens = Array.from({{length: planner.tokens}}, (_, token) => token);
  return JSON.stringify({{
    chains: tokens.map((token) => painter.colourOf(token)),
    heat: tokens.map((token) => painter._heat(0, token)),
    limit: painter.heatLimit,
  }});
}}"""


def in_browser(open_page, function: str, cases: list) -> list:
    """What a function of the inspector's own script returns."""
    return open_page("about:blank").evaluate(f"cases => {{ {script()}\nreturn ({function})(cases); }}", cases)


def hexes(colors: np.ndarray) -> list[str]:
    return ["#{:02X}{:02X}{:02X}".format(*color) for color in colors]


def channels(pixels: list[int]) -> np.ndarray:
    """``[n, 3]`` red, green, blue of little-endian RGBA pixels."""
    return np.array(pixels, dtype="<u4").view(np.uint8).reshape(-1, 4)[:, :3].astype(int)


def test_chains_are_hashed_to_the_same_colour(open_page) -> None:
    draw = np.random.default_rng(0)
    cells = np.stack(np.meshgrid(np.arange(6), np.arange(14), np.arange(14), indexing="ij"), axis=-1).reshape(-1, 3)
    boxes = np.concatenate([cells, draw.integers(0, [1024, 64, 64], (3000, 3))])
    expected = palette.chain_colors(np.pad(boxes, ((0, 0), (0, 2))))
    assert in_browser(open_page, SLOTS, boxes.tolist()) == hexes(expected)
    assert len(set(hexes(expected))) == len(palette.CHAINS)


def test_the_heat_ramp_is_the_same(open_page) -> None:
    shares = np.concatenate([np.arange(256) / 255, np.random.default_rng(1).uniform(-0.1, 1.1, 1000)])
    found = channels(in_browser(open_page, HEAT, shares.tolist()))
    difference = np.abs(found - palette.heat_colors(shares.clip(0, 1)))
    assert difference[:256].max() <= 1  # .5 is rounded up here and to even there
    assert difference.max() <= 2  # between two of the browser's 256 steps


@pytest.mark.parametrize("taus", [(0.97, 0.98), (0.9, 0.5), (1.01, 1.01)])
def test_a_plan_is_drawn_in_the_same_colours(open_page, tmp_path, taus) -> None:
    data = inspector_data(VideoClip.open(CLIP, 12).frames)
    found = json.loads(open_page(write_page(tmp_path, data)).evaluate(DRAWN, taus))
    plan = data.tables.plan(*taus)
    assert found["chains"] == hexes(palette.chain_colors(plan.boxes.numpy()))
    assert found["limit"] == heat_limit(plan)
    share = np.log(plan.patch_counts.numpy()) / np.log(heat_limit(plan))
    assert np.abs(channels(found["heat"]) - palette.heat_colors(share)).max() <= 2
