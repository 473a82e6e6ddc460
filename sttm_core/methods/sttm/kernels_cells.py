"""Pass one over the features for cells of any size, used on CUDA (see `kernels` for what importing needs).

Cells of at most 64 patches are tiles of `kernels.tile_cosines`. Larger ones are cut by level. The levels up to the
`split` make tiles of the patches. The levels from the split up make tiles too: the means of the split's nodes, in
float32 and 1/64 as many as patches, take the place of the patches. What is left is each node below the split with its
ancestors above it, in the next frame and in the one before: a dot product of each of its patches with the ancestor's
mean, `_ancestor_kernel`. Children lie at most one level below, so no child minimum is left over.

A larger cell thus costs one reading of the features for the means, one for the tiles, and one for each level above the
split; the grids up to 64x64 have one such level, or two with ``root_level=0``.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .kernels import LARGEST_SIDE, MEAN_ROWS, Cosines, _cosine, _group_sums, _mean_of_rows, _store_pairs, tile_cosines
from .quadtree import Quadtree
from .tiles import AncestorPairs, Tiles, ancestor_pairs, tile_side, tiles_of

SPLIT = 3  # a node of this level has 64 patches
MEAN_CHANNELS = 256
ANCESTOR_BLOCK = 4096  # slots times channels that are multiplied at a time
ANCESTOR_WARPS = 4


def fits(tree: Quadtree, split: int = SPLIT) -> bool:
    """Whether both parts of the tree's levels are tiles that the kernels take; true of all grids up to 128x128."""
    return tile_side(tree.num_levels - min(split, tree.num_levels - 1)) <= LARGEST_SIDE


def cosine_tables(frames: torch.Tensor, tree: Quadtree, weighting: str, split: int = SPLIT) -> Cosines:
    """Child minima and pair cosines of all frames (algorithm, section 5).

    Args:
        frames: ``[T, H*W, C]``, any float dtype, the last dimension contiguous.
        tree: one that `fits`.
        weighting: of `similarity.similarity_tables`.
        split: the level at which larger cells are cut, 2 or 3.
    """
    out = Cosines.empty(len(frames), tree, frames.device)
    top = tree.num_levels - 1
    low = tiles_of(tree, weighting, frames.device, 0, min(split, top))
    if top <= split:
        tile_cosines(frames, low, tree.num_patches, out)
        return out
    lengths = torch.empty(len(frames), low.levels, low.count, low.side, dtype=torch.float32, device=frames.device)
    tile_cosines(frames, low, tree.num_patches, out, lengths)
    means = node_means(frames, low)
    tile_cosines(means, tiles_of(tree, weighting, frames.device, split, top), tree.num_patches, out)
    for level in range(split + 1, top + 1):
        coarse = node_means(means, tiles_of(tree, weighting, frames.device, split, level))
        pairs = ancestor_pairs(tree, split, level, frames.device)
        ancestor_cosines(frames, coarse, low, pairs, lengths, out.pair_cosines)
    return out


def node_means(features: torch.Tensor, tiles: Tiles) -> torch.Tensor:
    """``[T, tiles, C]`` float32: the feature of the root of each tile, from those of the tiles' rows ``[T, R, C]``."""
    count, _, channels = features.shape
    means = torch.empty(count, tiles.count, channels, dtype=torch.float32, device=features.device)
    _mean_kernel[(triton.cdiv(channels, MEAN_CHANNELS), tiles.count, count)](
        features, tiles.rows, tiles.weights[-1], means, channels, features.stride(0), features.stride(1),
        SIDE=tiles.side, ROWS=MEAN_ROWS, CHANNELS=MEAN_CHANNELS, num_warps=1,
    )  # fmt: skip
    return means


def ancestor_cosines(
    frames: torch.Tensor, coarse: torch.Tensor, tiles: Tiles, pairs: AncestorPairs, lengths: torch.Tensor,
    pair_cosines: torch.Tensor,
) -> None:  # fmt: skip
    """Write the cosines of nodes below the roots of tiles with one coarser level, in one pass over the features.

    Args:
        frames: ``[T, H*W, C]``, any float dtype, the last dimension contiguous.
        coarse: ``[T, nodes of the level, C]`` float32, their features.
        tiles, lengths: of the patches, and as `kernels.tile_cosines` has filled them.
        pair_cosines: ``[T-1, pairs]`` float32, filled where ``pairs`` says so.
    """
    count, _, channels = frames.shape
    _ancestor_kernel[(tiles.count, count)](
        frames, tiles.rows, tiles.weights, pairs.ancestors, pairs.pairs, coarse, lengths, pair_cosines,
        count, pair_cosines.shape[1], channels, frames.stride(0), frames.stride(1), coarse.stride(0),
        SIDE=tiles.side, LEVELS=tiles.levels, CHANNELS=ANCESTOR_BLOCK // tiles.side, num_warps=ANCESTOR_WARPS,
    )  # fmt: skip


@triton.jit
def _mean_kernel(
    features, tile_rows, weights, means, channels, frame_stride, row_stride,
    SIDE: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """One block of channels of the root of one tile in one frame."""
    tile, frame = tl.program_id(1), tl.program_id(2).to(tl.int64)
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    mean = _mean_of_rows(
        features + frame * frame_stride, tile_rows + tile * SIDE, weights + tile * SIDE, channel, SIDE, channels,
        row_stride, ROWS,
    )  # fmt: skip
    tl.store(means + (frame * tl.num_programs(1) + tile) * channels + channel, mean, mask=channel < channels)


@triton.jit
def _ancestor_kernel(
    frames, patches, weights, ancestors, pairs, coarse, lengths, pair_cosines,
    num_frames, num_pairs, channels, frame_stride, patch_stride, coarse_stride,
    SIDE: tl.constexpr, LEVELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """One tile of one frame with its ancestor in the next frame and in the one before."""
    tile, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    tiles = tl.num_programs(0)
    slot = tl.arange(0, SIDE)
    patch = tl.load(patches + tile * SIDE + slot)
    filled = (patch >= 0)[:, None]
    rows = frames + frame * frame_stride + patch[:, None] * patch_stride
    has_next, has_last = frame + 1 < num_frames, frame > 0
    next_channels, last_channels = tl.where(has_next, channels, 0), tl.where(has_last, channels, 0)
    ancestor = coarse + frame * coarse_stride + tl.load(ancestors + tile) * channels
    to_next = tl.zeros((SIDE, CHANNELS), tl.float32)
    to_last = tl.zeros((SIDE, CHANNELS), tl.float32)
    next_squares = tl.zeros((1, CHANNELS), tl.float32)
    last_squares = tl.zeros((1, CHANNELS), tl.float32)
    for start in range(0, channels, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)[None, :]
        x = tl.load(rows + channel, mask=filled & (channel < channels), other=0.0).to(tl.float32)
        after = tl.load(ancestor + coarse_stride + channel, mask=channel < next_channels, other=0.0)
        before = tl.load(ancestor - coarse_stride + channel, mask=channel < last_channels, other=0.0)
        to_next += x * after
        to_last += x * before
        next_squares += after * after
        last_squares += before * before
    next_dots, last_dots = tl.sum(to_next, axis=1), tl.sum(to_last, axis=1)  # [SIDE] of each patch
    next_length, last_length = tl.sqrt(tl.sum(next_squares, axis=1)), tl.sqrt(tl.sum(last_squares, axis=1))
    out = pair_cosines + frame * num_pairs
    for level in tl.static_range(LEVELS - 1):
        own_weights = tl.load(weights + (level * tiles + tile) * SIDE + slot)
        node = tl.arange(0, SIDE >> (2 * level))
        own = tl.load(lengths + ((frame * LEVELS + level) * tiles + tile) * SIDE + node)
        places = pairs + (level * 2 * tiles + tile) * SIDE
        with_next = _cosine(_group_sums(next_dots * own_weights, SIDE, level), own, next_length)
        with_last = _cosine(_group_sums(last_dots * own_weights, SIDE, level), own, last_length)
        _store_pairs(with_next, places, out, has_next, SIDE >> (2 * level))
        _store_pairs(with_last, places + tiles * SIDE, out - num_pairs, has_last, SIDE >> (2 * level))
