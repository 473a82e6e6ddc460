"""How alike a model's video tokens are before its merge layer, on real files: what thresholds can be useful.

Needs a video decoder, so training imports nothing from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from sttm_core.engine import VideoLLM
from sttm_core.video import VideoClip

PERCENTILES = (5, 25, 50, 75, 95)
PUBLISHED = ((0.95, 0.9), (0.95, 0.7), (0.9, 0.8), (0.85, 0.7), (0.8, 0.65), (0.75, 0.5))  # (tau_S, tau_T), both ends


def cosine_report(llm: VideoLLM, clips: Iterable[Path], num_frames: int = 16) -> dict:
    """Percentiles of the two kinds of cosine that merging compares, and what published thresholds leave.

    Args:
        llm: the model.
        clips: video files.
        num_frames: sampled from each.

    Returns:
        ``parents``: percentiles over quadtree nodes of the lowest cosine with a child; ``neighbours``: over patches, of
        the cosine with the same patch of the next frame; ``retention``: per threshold pair, by file.
    """
    parents, neighbours = [], []
    retention: dict[str, dict[str, float]] = {f"{s:g}/{t:g}": {} for s, t in PUBLISHED}
    for path in clips:
        encoded = llm.encode(VideoClip.open(path, num_frames=num_frames))
        parents.append(encoded.tables.child_min.flatten())
        tokens = encoded.tokens.float()
        neighbours.append(torch.cosine_similarity(tokens[:-1], tokens[1:], dim=-1).flatten())
        for spatial, temporal in PUBLISHED:
            plan = encoded.tables.plan(spatial, temporal, "paper")
            retention[f"{spatial:g}/{temporal:g}"][path.name] = plan.retention
    return {"parents": _percentiles(parents), "neighbours": _percentiles(neighbours), "retention": retention}


def _percentiles(parts: list[torch.Tensor]) -> dict[str, float]:
    values = torch.cat(parts).float()
    points = torch.quantile(values, torch.tensor(PERCENTILES) / 100)
    return {str(name): round(float(value), 4) for name, value in zip(PERCENTILES, points, strict=True)}
