"""Settings of the two passes over the features: which are fastest on this GPU, and how exact their cosines are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import torch
from triton.testing import do_bench

from benchmarks.merge_cases import DTYPES, Case, drifting_video
from benchmarks.merge_check import exact_cosines, largest_error
from sttm_core import Quadtree, similarity_tables, thresholds_for_retention
from sttm_core.methods.sttm import kernels
from sttm_core.methods.sttm.kernels import Cosines, GramSettings, PoolSettings
from sttm_core.methods.sttm.kernels_cells import cosine_tables, fits
from sttm_core.methods.sttm.plan import sorted_members
from sttm_core.methods.sttm.tiles import tiles_of

CHECKED_FRAMES = 4
PRECISIONS = ("ieee", "tf32x3")
SMALL_TILES = [GramSettings(*s) for s in ((64, 1, 4), (64, 1, 6), (64, 2, 4), (128, 1, 3), (128, 2, 3), (128, 2, 4),
                                          (128, 4, 3), (256, 2, 2), (256, 4, 3), (32, 1, 6))]  # fmt: skip
LARGE_TILES = [GramSettings(*s) for s in ((64, 8, 3), (64, 8, 4), (128, 8, 2), (128, 8, 3), (32, 8, 4), (64, 4, 3),
                                          (64, 4, 4), (64, 4, 2), (128, 4, 2), (128, 4, 3), (32, 4, 4))]  # fmt: skip
SMALL_WIDE_TILES = [GramSettings(*s, precision) for precision in PRECISIONS for s in
                    ((32, 1, 2), (32, 1, 4), (32, 2, 3), (64, 1, 2), (64, 1, 3), (64, 2, 3), (128, 2, 2))]  # fmt: skip
LARGE_WIDE_TILES = [GramSettings(*s, precision) for precision in PRECISIONS for s in
                    ((32, 8, 2), (32, 8, 3), (32, 4, 2), (32, 4, 3), (64, 8, 2), (64, 4, 2))]  # fmt: skip
POOLS = [PoolSettings(*s) for s in ((4, 256, 1, 2), (4, 256, 1, 3), (8, 256, 1, 2), (2, 256, 1, 3), (4, 512, 2, 2),
                                    (4, 1024, 4, 2), (2, 1024, 4, 2), (2, 512, 2, 3), (1, 1024, 4, 4), (8, 512, 2, 2),
                                    (4, 512, 1, 2), (8, 512, 4, 2))]  # fmt: skip


@dataclass(frozen=True)
class Split:
    """The level at which `kernels_cells.cosine_tables` cuts cells that are larger than a node of that level."""

    split: int


SPLITS = [Split(2), Split(3)]


def tune_kernels(device: torch.device) -> dict:
    """Microseconds of each pass with each of the settings, fastest first, and the largest error of cosines."""
    small, large, cells = (128, 14, 14, 3584), (64, 20, 36, 3584), (32, 64, 64, 3584)
    found = {}
    for case, grams in (
        (Case(*small), SMALL_TILES), (Case(*large), LARGE_TILES), (Case(*small, dtype="float32"), SMALL_WIDE_TILES),
        (Case(*large, dtype="float32"), LARGE_WIDE_TILES), (Case(*cells), None),
        (Case(64, 24, 24, 3584, root_level=0), None),
    ):  # fmt: skip
        tree = case.tree
        tokens = drifting_video(case.frames, case.height, case.width, case.channels, device).to(DTYPES[case.dtype])
        if grams:
            found[f"{case}: tables"] = ranked(grams, tables_of(tokens, tree), cosine_error(tokens, tree, tables_of))
            found[f"{case}: pooling"] = ranked(POOLS, pooling_of(tokens, tree))
        if tree.num_levels > SPLITS[0].split + 1:
            found[f"{case}: levels"] = ranked(SPLITS, splits_of(tokens, tree), cosine_error(tokens, tree, splits_of))
    for name, rows in found.items():
        print(name)
        for row in rows:
            print("   ", row)
    return found


def ranked(
    choices: Iterable, work: Callable[[object], object], error: Callable[[object], float] | None = None
) -> list[dict]:
    """The choices as dictionaries with the time of ``work(choice)`` in "us" and ``error(choice)``, fastest first."""
    rows = []
    for settings in choices:
        row = asdict(settings)
        try:
            row["us"] = round(1e3 * do_bench(lambda s=settings: work(s), warmup=10, rep=50, return_mode="median"), 1)
            if error:
                row["largest_error"] = error(settings)
        except Exception as failed:  # too much shared memory, for one
            row |= {"us": float("inf"), "error": f"{type(failed).__name__}: {failed}"[:200]}
        rows.append(row)
    return sorted(rows, key=lambda row: row["us"])


def tables_of(tokens: torch.Tensor, tree: Quadtree) -> Callable[[GramSettings], Cosines]:
    """Tables of a tree whose cells are tiles."""
    frames, tiles = tokens.flatten(1, 2), tiles_of(tree, "nodes", tokens.device, 0, tree.num_levels - 1)

    def work(settings: GramSettings) -> Cosines:
        out = Cosines.empty(len(frames), tree, frames.device)
        kernels.tile_cosines(frames, tiles, tree.num_patches, out, settings=settings)
        return out

    return work


def splits_of(tokens: torch.Tensor, tree: Quadtree) -> Callable[[Split], Cosines]:
    """Tables of a tree whose cells may be cut."""
    frames = tokens.flatten(1, 2)

    def work(settings: Split) -> Cosines:
        if not fits(tree, settings.split):
            raise ValueError("the part above the split does not fit into a tile")
        return cosine_tables(frames, tree, "nodes", settings.split)

    return work


def cosine_error(tokens: torch.Tensor, tree: Quadtree, work_of: Callable) -> Callable[[object], float]:
    """The largest difference of cosines from those in float64, in a few frames."""
    few = tokens[:CHECKED_FRAMES]
    work, exact = work_of(few, tree), exact_cosines(few, tree)
    return lambda settings: largest_error(work(settings)[:2], exact)


def pooling_of(tokens: torch.Tensor, tree: Quadtree) -> Callable[[PoolSettings], torch.Tensor]:
    tables = similarity_tables(tokens, tree)
    found = thresholds_for_retention(tables, 0.3)
    members = sorted_members(kernels, tables.plan(found.tau_spatial, found.tau_temporal))
    return lambda settings: kernels.pool_members(tokens.flatten(0, 2), *members, settings)
