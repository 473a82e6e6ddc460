"""The browser decides exactly what the Python core decides, on a real clip."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sttm_core.methods.sttm.plan import MergePlan
from sttm_core.video import VideoClip
from tests.ui.inspected import GET, inspector_data, write_page

CLIP = Path(__file__).parents[2] / "assets" / "clips" / "code-bunny.mp4"
GRIDS = ((14, 14), (9, 16), (13, 20))
SETTINGS_PER_GRID = 17  # times three grids and two rules: 102 plans
DECIDE = f"""settings => {{
  const {{planner}} = {GET};
  return JSON.stringify(settings.map(([s, t, rules]) => {{
    planner.run(s, t, rules);
    const cells = Array.from(planner.rank, (node) => planner.token[node]);
    return {{
      levels: Array.from(planner.level), member_of: cells, retention: planner.retention, tokens: planner.tokens,
      nodes: planner.nodes, links: planner.links, chains: planner.chains, longest: planner.longest,
      cosines: Array.from(planner.linkCosine.subarray(0, planner.links)),
      per_frame: Array.from(planner.perFrame), patch_counts: Array.from(planner.patchCount.subarray(0, planner.tokens)),
      members: Array.from(planner.memberCount.subarray(0, planner.tokens)),
      summary: [planner.min, planner.median, planner.max],
    }};
  }}));
}}"""


def random_settings(tables, seed: int) -> list[tuple[float, float, str]]:
    """Thresholds among the video's own cosines, some of them equal to one (where `<` and `<=` differ), some off."""
    rng = np.random.default_rng(seed)
    pick = [rng.choice(values.numpy().ravel(), SETTINGS_PER_GRID) for values in (tables.child_min, tables.pair_cosines)]
    pairs = [(float(s), float(t)) for s, t in zip(*pick, strict=True)]
    pairs[:4] = [(0.97, 0.98), (1.01, 0.9), (0.9, 0.0), (-1.0, 1.01)]
    return [(s, t, rules) for s, t in pairs for rules in ("paper", "as_released")]


def levels_of(plan: MergePlan) -> np.ndarray:
    """``[T*H*W]`` level of the kept node that covers each patch."""
    return plan.tree.levels[plan.node_ids.numpy()][plan.node_of_patch.numpy()].ravel()


def expected(plan: MergePlan) -> dict:
    per_frame = plan.tokens_per_frame.numpy()
    return {
        "levels": levels_of(plan).tolist(),
        "member_of": plan.member_of.ravel().tolist(),
        "retention": plan.retention,
        "tokens": plan.num_tokens,
        "nodes": len(plan.node_ids),
        "links": len(plan.links),
        "chains": plan.num_chains,
        "longest": plan.longest_chain,
        "cosines": plan.link_cosines.tolist(),
        "per_frame": per_frame.tolist(),
        "patch_counts": plan.patch_counts.tolist(),
        "members": plan.member_counts.tolist(),
        "summary": [per_frame.min(), np.median(per_frame), per_frame.max()],
    }


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_decisions_equal_the_core(open_page, tmp_path, height, width):
    data = inspector_data(VideoClip.open(CLIP, 12).frames, height, width)
    settings = random_settings(data.tables, seed=height)
    found = json.loads(open_page(write_page(tmp_path, data)).evaluate(DECIDE, settings))
    tokens = set()
    for setting, decisions in zip(settings, found, strict=True):
        plan = data.tables.plan(*setting)
        wanted = expected(plan)
        for name, value in wanted.items():
            assert decisions[name] == value, f"{name} differs at {setting}"
        tokens.add(plan.num_tokens)
    assert len(tokens) > 10, "the settings hardly differ"
