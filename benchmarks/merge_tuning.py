"""Block sizes of the two passes over the features: which are fastest on this GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from triton.testing import do_bench

from sttm_core import Quadtree, kernels, similarity_tables, thresholds_for_retention
from sttm_core.kernels import GramSettings, PoolSettings
from sttm_core.merge import sorted_members
from sttm_core.tiles import tiles_of

SMALL_TILES = [GramSettings(*s) for s in ((64, 1, 4), (64, 1, 6), (64, 2, 4), (128, 1, 3), (128, 2, 3), (128, 2, 4),
                                          (128, 4, 3), (256, 2, 2), (256, 4, 3), (32, 1, 6))]  # fmt: skip
LARGE_TILES = [GramSettings(*s) for s in ((64, 8, 3), (64, 8, 4), (128, 8, 2), (128, 8, 3), (32, 8, 4), (64, 4, 3),
                                          (64, 4, 4), (64, 4, 2), (128, 4, 2), (128, 4, 3), (32, 4, 4))]  # fmt: skip
POOLS = [PoolSettings(*s) for s in ((4, 256, 1, 2), (4, 256, 1, 3), (8, 256, 1, 2), (2, 256, 1, 3), (4, 512, 2, 2),
                                    (4, 1024, 4, 2), (2, 1024, 4, 2), (2, 512, 2, 3), (1, 1024, 4, 4), (8, 512, 2, 2),
                                    (4, 512, 1, 2), (8, 512, 4, 2))]  # fmt: skip


def tune_kernels(device: torch.device) -> dict:
    """Microseconds of each pass with each of the settings, fastest first, for a small and a large tile."""
    from benchmarks.merge_op import Case, drifting_video

    found = {}
    for case, grams in ((Case(128, 14, 14, 3584), SMALL_TILES), (Case(64, 20, 36, 3584), LARGE_TILES)):
        shape = (case.frames, case.height, case.width, case.channels)
        tokens, tree = drifting_video(*shape, device).bfloat16(), case.tree
        found[f"{case}: tables"] = ranked(grams, lambda s, t=tokens, tree=tree: run_tables(t, tree, s))
        found[f"{case}: pooling"] = ranked(POOLS, pooling_of(tokens, tree))
    for name, rows in found.items():
        print(name)
        for row in rows:
            print("   ", row)
    return found


def ranked(choices: Sequence[GramSettings | PoolSettings], work: Callable[[object], object]) -> list[dict]:
    rows = []
    for settings in choices:
        try:
            microseconds = 1e3 * do_bench(lambda s=settings: work(s), warmup=10, rep=50, return_mode="median")
            rows.append(asdict(settings) | {"us": round(microseconds, 1)})
        except Exception as error:  # too much shared memory, for one
            rows.append(asdict(settings) | {"us": float("inf"), "error": f"{type(error).__name__}: {error}"[:200]})
    return sorted(rows, key=lambda row: row["us"])


def run_tables(tokens: torch.Tensor, tree: Quadtree, settings: GramSettings) -> None:
    tiles = tiles_of(tree, "nodes", tokens.device)
    kernels.cosine_tables(tokens.flatten(1, 2), tiles, tree.num_internal, len(tree.pairs), settings)


def pooling_of(tokens: torch.Tensor, tree: Quadtree) -> Callable[[PoolSettings], torch.Tensor]:
    tables = similarity_tables(tokens, tree)
    found = thresholds_for_retention(tables, 0.3)
    members = sorted_members(kernels, tables.plan(found.tau_spatial, found.tau_temporal))
    return lambda settings: kernels.pool_members(tokens.flatten(0, 2), *members, settings)
