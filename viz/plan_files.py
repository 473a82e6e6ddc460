"""A plan of any method as files: JSON for programs, a PDF figure in the paper's style for people."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sttm_core import MergePlan
from sttm_core.engine import EncodedVideo
from sttm_core.method import Plan

from .figures import merge_figure

FIGURE_COLUMNS = 5


def plan_dict(plan: Plan) -> dict[str, Any]:
    """What became of every patch, JSON-ready, for a plan of any method.

    ``boxes``, ``places`` and ``patch_counts`` have a row a token (t, y0, x0, y1, x1 in patches, half open; flat patch
    indices). ``member_of`` has the token of each patch in scan order, -1 for one that was dropped; ``shares`` its
    weight in that token's mean.
    """
    knobs = {name: value for name, value in asdict(plan.method).items() if name != "retention"}
    return {
        "method": plan.method.name,
        **knobs,
        "retention": plan.retention,
        "tokens": {"all": plan.num_patches, "kept": plan.num_tokens},
        "patches_dropped": plan.num_dropped,
        "grid": list(plan.grid),
        "tokens_per_frame": plan.tokens_per_frame.tolist(),
        "boxes": plan.boxes.tolist(),
        "places": plan.places.tolist(),
        "patch_counts": plan.patch_counts.tolist(),
        "member_of": plan.member_of.flatten().tolist(),
        "shares": plan.share.tolist(),
        **plan.details,
        **(_nodes_dict(plan) if isinstance(plan, MergePlan) else {}),
    }


def _nodes_dict(plan: MergePlan) -> dict[str, Any]:
    """What only STTM has: ``nodes``, a row a box that the spatial stage kept, ``node_tokens`` the token that each went
    into, ``links`` pairs of nodes with their cosines."""
    return {
        "nodes": plan.node_boxes.tolist(),
        "node_tokens": plan.node_tokens.tolist(),
        "links": plan.links.tolist(),
        "link_cosines": plan.link_cosines.tolist(),
    }


def write_plan(plan: Plan, runs: list[dict], path: Path) -> Path:
    """One JSON file with the plan and the runs of a visit."""
    text = json.dumps({"plan": plan_dict(plan), "runs": runs}, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def write_figure(encoded: EncodedVideo, plan: Plan, path: Path) -> Path:
    """Up to five evenly spaced frames, what is kept of them, and chains: .pdf, .svg or .png by the file's name."""
    shown = np.unique(np.linspace(0, plan.num_frames - 1, min(FIGURE_COLUMNS, plan.num_frames)).round().astype(int))
    frames, times = encoded.clip.frames[encoded.step_frames], encoded.clip.times[encoded.step_frames]
    merge_figure(frames, plan, shown.tolist(), times).savefig(path, dpi=200)
    return path
