"""Whether a device decides as the CPU does in float32, and which decisions a dtype changes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch.nn.functional import normalize

from benchmarks.transcription import node_features
from sttm_core import Quadtree, SimilarityTables, similarity_tables, thresholds_for_retention
from sttm_core.methods.sttm.quadtree import tree_tensor

MARGIN = 1e-3  # distance of every similarity from the thresholds


def crisp_video(frames: int, height: int, width: int, channels: int) -> torch.Tensor:
    """``[T, H, W, C]`` float32 on the CPU: few distinct features, so that cosines lie in clusters with gaps between.

    Areas of 1 to 16 patches a side share one of five features; one area in eight changes from frame to frame.
    """
    draw = torch.Generator().manual_seed(frames * height + width)
    palette = torch.randn(5, channels, generator=draw)
    scene = torch.zeros(frames, height, width, dtype=torch.int64)
    for side in (16, 8, 4, 2, 1):
        rows, columns = -(-height // side), -(-width // side)
        share = torch.rand(1, rows, columns, generator=draw).expand(frames, -1, -1)
        changes = torch.rand(frames, rows, columns, generator=draw) < 1 / 8
        colours = torch.randint(0, 5, (frames, rows, columns), generator=draw)
        colours = torch.where(changes, colours, colours[:1])
        drawn = torch.where(share < 0.4, colours, -1).repeat_interleave(side, 1).repeat_interleave(side, 2)
        drawn = drawn[:, :height, :width]
        scene = torch.where(drawn >= 0, drawn, scene)
    return palette[scene]


def middle_of_gap(values: torch.Tensor, wanted: float) -> tuple[float, float]:
    """The middle of the gap between values that holds ``wanted`` or is next to it and wide enough; half its width."""
    ordered = np.unique(values.numpy())
    wide = np.flatnonzero(np.diff(ordered) > 2 * MARGIN)
    middles = (ordered[wide] + ordered[wide + 1]) / 2
    best = np.abs(middles - wanted).argmin()
    return float(middles[best]), float(ordered[wide[best] + 1] - ordered[wide[best]]) / 2


def compare_devices(tokens: torch.Tensor, tree: Quadtree, rules: str, device: torch.device) -> dict[str, object]:
    """bfloat16 features merged on ``device`` against float32 on the CPU, at a distance from all similarities.

    Args:
        tokens: ``[T, H, W, C]`` of `crisp_video`, to be rounded.

    Raises:
        AssertionError: if boxes, counts, members or features differ.
    """
    tokens = tokens.bfloat16()
    expected_tables = similarity_tables(tokens.float(), tree)
    tau_s, margin_s = middle_of_gap(expected_tables.split_minima(rules), 0.85)
    tau_t, margin_t = middle_of_gap(expected_tables.pair_cosines, 0.8)
    tables = similarity_tables(tokens.to(device), tree)
    found, wanted = ([getattr(both, name).cpu() for name in TABLES] for both in (tables, expected_tables))
    error = largest_error(found, wanted)
    expected = expected_tables.plan(tau_s, tau_t, rules).apply(tokens.float())
    merged = tables.plan(tau_s, tau_t, rules).apply(tokens.to(device))
    assert torch.equal(merged.boxes.cpu(), expected.boxes), "boxes differ"
    assert torch.equal(merged.patch_counts.cpu(), expected.patch_counts), "patch counts differ"
    assert torch.equal(merged.plan.member_of.cpu(), expected.plan.member_of), "members differ"
    off = (merged.tokens.cpu().float() - expected.tokens).norm() / expected.tokens.norm()
    assert off < 8e-3, f"features are off by {off:.1e}"
    return {
        "tokens": [expected.plan.num_patches, expected.plan.num_tokens], "margins": [margin_s, margin_t],
        "largest_cosine_error": error, "relative_feature_error": float(off),
    }  # fmt: skip


TABLES = ("child_min", "child_min_released", "pair_cosines")


def exact_cosines(tokens: torch.Tensor, tree: Quadtree) -> tuple[torch.Tensor, torch.Tensor]:
    """``child_min`` and ``pair_cosines`` of `SimilarityTables` in float64, from the features of nodes themselves."""
    unit = normalize(node_features(tokens.flatten(1, 2).double(), tree), dim=-1)  # [T, nodes, C]
    parents, children, single, pairs = (
        tree_tensor(tree, name, tokens.device) for name in ("parents", "filled_children", "single_child", "pairs")
    )
    below = tree.level_offsets[-2]  # nodes below the root grid
    with_parent = (unit[:, :below] * unit[:, parents[:below]]).sum(-1)
    minima = with_parent[:, children].amin(-1).masked_fill(single, 1.0)
    pair_cosines = [(a[pairs[:, 0]] * b[pairs[:, 1]]).sum(-1) for a, b in zip(unit[:-1], unit[1:], strict=True)]
    return minima, torch.stack(pair_cosines)


def largest_error(found: Iterable[torch.Tensor], exact: Iterable[torch.Tensor]) -> float:
    """The largest difference of tables from exact ones."""
    return max(float((ours - theirs).abs().max()) for ours, theirs in zip(found, exact, strict=True) if ours.numel())


def count_flips(tokens: torch.Tensor, retention: float) -> dict[str, object]:
    """Comparisons with a threshold that come out otherwise after rounding ``tokens`` to bfloat16."""
    exact, rounded = similarity_tables(tokens), similarity_tables(tokens.bfloat16())
    found = thresholds_for_retention(exact, retention)
    taus = found.tau_spatial, found.tau_temporal
    plans = [tables.plan(*taus) for tables in (exact, rounded)]
    return {
        "splits": flips(exact, rounded, "child_min", taus[0]),
        "links": flips(exact, rounded, "pair_cosines", taus[1]),
        "tokens": [plan.num_tokens for plan in plans],
    }


def flips(exact: SimilarityTables, rounded: SimilarityTables, name: str, tau: float) -> dict[str, float]:
    """How many of these similarities change sides, and how far from the threshold the farthest of them was."""
    before, after = getattr(exact, name), getattr(rounded, name)
    changed = (before >= tau) != (after >= tau)
    farthest = float((before - tau).abs()[changed].max()) if changed.any() else 0.0
    moved = float((before - after).abs().max())
    return {"changed": int(changed.sum()), "of": before.numel(), "farthest": farthest, "largest_move": moved}
