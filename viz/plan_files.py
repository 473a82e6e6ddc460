"""A merge plan as files: JSON for programs, a PDF figure in the paper's style for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sttm_core import MergePlan
from sttm_core.engine import EncodedVideo

from .figures import merge_figure

FIGURE_COLUMNS = 5


def plan_dict(plan: MergePlan) -> dict[str, Any]:
    """What is merged, JSON-ready.

    ``boxes`` and ``patch_counts`` have a row a token (t, y0, x0, y1, x1 in patches, half open); ``nodes`` a row a box
    that the spatial stage kept, ``node_tokens`` the token that each went into, ``links`` pairs of nodes with their
    cosines.
    """
    return {
        "retention": plan.retention,
        "tokens": {"all": plan.num_patches, "kept": plan.num_tokens},
        "grid": [plan.num_frames, plan.tree.height, plan.tree.width],
        "root_level": plan.tree.root_level,
        "tau_spatial": plan.tau_spatial,
        "tau_temporal": plan.tau_temporal,
        "rules": plan.rules,
        "weighting": plan.weighting,
        "tokens_per_frame": plan.tokens_per_frame.tolist(),
        "chains": {"count": plan.num_chains, "longest": plan.longest_chain},
        "boxes": plan.boxes.tolist(),
        "patch_counts": plan.patch_counts.tolist(),
        "nodes": plan.node_boxes.tolist(),
        "node_tokens": plan.node_tokens.tolist(),
        "links": plan.links.tolist(),
        "link_cosines": plan.link_cosines.tolist(),
    }


def write_plan(plan: MergePlan, runs: list[dict], path: Path) -> Path:
    """One JSON file with the plan and the runs of a visit."""
    text = json.dumps({"plan": plan_dict(plan), "runs": runs}, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def write_figure(encoded: EncodedVideo, plan: MergePlan, path: Path) -> Path:
    """Frames, partition and chains of up to five evenly spaced frames, as the file's ending says (.pdf, .svg, .png)."""
    shown = np.unique(np.linspace(0, plan.num_frames - 1, min(FIGURE_COLUMNS, plan.num_frames)).round().astype(int))
    frames, times = encoded.clip.frames[encoded.step_frames], encoded.clip.times[encoded.step_frames]
    merge_figure(frames, plan, shown.tolist(), times).savefig(path, dpi=200)
    return path
