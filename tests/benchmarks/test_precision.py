"""Counting decisions that change, on tables whose differences are known."""

from __future__ import annotations

import torch

from benchmarks.precision import compare
from sttm_core import Quadtree, SimilarityTables


def tables(child_min: float, cosine: float) -> SimilarityTables:
    tree = Quadtree(4, 4, root_level=0)
    minima = torch.full((2, tree.num_internal), 0.95)
    cosines = torch.full((1, len(tree.pairs)), 0.5)
    minima[0, 0], cosines[0, 3] = child_min, cosine
    return SimilarityTables(tree, minima, minima, cosines)


def test_only_decisions_that_cross_a_threshold_count() -> None:
    row = compare("clip", tables(0.9002, 0.7), tables(0.8999, 0.7004), tau_s=0.9, tau_t=0.8)
    assert (row.splits, row.splits_changed) == (2 * 4, 1)
    assert (row.pairs, row.pairs_changed) == (len(Quadtree(4, 4, 0).pairs), 0)
    assert abs(row.largest_move - 4e-4) < 1e-6
    assert abs(row.farthest_changed - 2e-4) < 1e-6
    assert row.tokens_bfloat16 == row.tokens_float32 + 3  # one 2x2 node more is split
