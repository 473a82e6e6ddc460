"""Triton versions of the two passes over the features, used on CUDA.

Pass one reads the features and writes every cosine that a plan may ask for: `tile_cosines` all of those within tiles,
`kernels_cells` with it those of cells of any size. Pass two (`pool_members`) reads the features once more and
writes the merged tokens. Neither makes a padded or widened copy of the features, and neither adds in an order that
depends on timing: the same input gives the same bits.

Importing this module needs Triton. `sttm_core` does so only for CUDA tensors, see `dispatch`. With
``TRITON_INTERPRET=1`` in the environment before the import everything here runs on CPU tensors, slowly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction

from .quadtree import Quadtree
from .tiles import Tiles

LARGEST_SIDE = 64  # slots of the largest tile whose dot products fit in registers
MEAN_ROWS = 8
BORDER_CHANNELS = 256
ORDER_ROWS = 256


@dataclass(frozen=True)
class GramSettings:
    """How `tile_cosines` is run: channels loaded at a time, warps a program, loads in flight.

    ``precision`` is that of products of float32: ``"ieee"``, or ``"tf32x3"``, three products of 11 bits each on the
    tensor cores.
    """

    channels: int
    warps: int
    stages: int
    precision: str = "ieee"


@dataclass(frozen=True)
class PoolSettings:
    """How `pool_members` is run: a program adds ``rows x channels`` at a time.

    A warp loads 16 bytes a thread: 256 channels of 2 bytes each, 128 of 4. With no more warps than fill the channels
    each thread holds all rows of its channels and adds them up alone; further warps would share the rows, and every
    step would then exchange sums between warps through shared memory. Most tokens have 1 to 4 members, so blocks of
    many rows load little but padding.
    """

    rows: int
    channels: int
    warps: int
    stages: int


NARROW_GRAM = {16: GramSettings(64, 1, 4), 64: GramSettings(128, 8, 2)}  # by side of a tile, dtypes of 2 bytes
WIDE_GRAM = {16: GramSettings(32, 1, 2), 64: GramSettings(32, 8, 2)}
POOL = PoolSettings(rows=4, channels=256, warps=1, stages=2)


class Cosines(NamedTuple):
    """What pass one writes.

    Attributes:
        child_min: ``[T, internal nodes]`` float32.
        pair_cosines: ``[T-1, pairs]`` float32.
        not_finite: ``[1]`` int32, 1 if a dot product within a frame is not finite.
    """

    child_min: torch.Tensor
    pair_cosines: torch.Tensor
    not_finite: torch.Tensor

    @classmethod
    def empty(cls, count: int, tree: Quadtree, device: torch.device) -> Cosines:
        child_min = torch.empty(count, tree.num_internal, dtype=torch.float32, device=device)
        pair_cosines = torch.empty(count - 1, len(tree.pairs), dtype=torch.float32, device=device)
        return cls(child_min, pair_cosines, torch.zeros(1, dtype=torch.int32, device=device))


def tile_cosines(
    features: torch.Tensor, tiles: Tiles, num_patches: int, out: Cosines, lengths: torch.Tensor | None = None,
    settings: GramSettings | None = None,
) -> None:  # fmt: skip
    """Write the child minima and pair cosines of all nodes of these tiles, in one pass over the features.

    Args:
        features: ``[T, R, C]`` of the tiles' rows, any float dtype, the last dimension contiguous.
        tiles: with a side of at most `LARGEST_SIDE`.
        num_patches: nodes of the tree's level 0, which have no child minimum.
        out: filled where the tiles say so.
        lengths: ``[T, levels, tiles, SIDE]`` float32; filled with the lengths of the nodes if given.
    """
    count, _, channels = features.shape
    wide = _must_widen(features.dtype)
    chosen = settings or (WIDE_GRAM if wide else NARROW_GRAM)[tiles.side]
    _cosine_kernel[(tiles.count, count)](
        features, tiles.rows, tiles.weights, tiles.nodes, tiles.pairs, *out,
        out.child_min if lengths is None else lengths, count, num_patches, out.child_min.shape[1],
        out.pair_cosines.shape[1], channels, features.stride(0), features.stride(1),
        SIDE=tiles.side, LEVELS=tiles.levels, CHANNELS=chosen.channels, WIDEN=wide, PRECISION=chosen.precision,
        KEEP_LENGTHS=lengths is not None, num_warps=chosen.warps, num_stages=chosen.stages,
    )  # fmt: skip


def lower_border_minima(
    frames: torch.Tensor, nodes: torch.Tensor, rows: torch.Tensor, weights: torch.Tensor, minima: torch.Tensor
) -> None:
    """Lower ``minima [T, internal nodes]`` of border nodes to their cosine with another node, in place.

    Args:
        frames: ``[T, H*W, C]``, the last dimension contiguous.
        nodes: ``[B]`` int64, columns of ``minima``.
        rows: ``[B, 2, R]`` int64, patches under each border node and under the node that it is compared with.
        weights: ``[B, 2, R]`` float32, their weights in the means, 0 for padding.
    """
    _border_kernel[(len(nodes), len(frames))](
        frames, nodes, rows, weights, minima, frames.shape[2], rows.shape[2], minima.shape[1], frames.stride(0),
        frames.stride(1), ROWS=MEAN_ROWS, CHANNELS=BORDER_CHANNELS, num_warps=1,
    )  # fmt: skip


def pool_members(
    rows: torch.Tensor,
    order: torch.Tensor,
    weights: torch.Tensor,
    starts: torch.Tensor,
    settings: PoolSettings = POOL,
) -> torch.Tensor:
    """Weighted means of rows, ``[R, C]`` into ``[N, C]`` of the same dtype, added in at least float32.

    Args:
        rows: ``[R, C]``, the last dimension contiguous.
        order: ``[R]`` int64, rows sorted by the output row that they go into.
        weights: ``[R]`` float32, in that order.
        starts: ``[N + 1]`` int32, where each output row's members start in it, and R.
    """
    count, channels = len(starts) - 1, rows.shape[1]
    pooled = torch.empty(count, channels, dtype=rows.dtype, device=rows.device)
    block = min(settings.channels, max(16, triton.next_power_of_2(channels)))
    _pool_kernel[(count * triton.cdiv(channels, block),)](
        rows, order, weights, starts, pooled, channels, rows.stride(0),
        ROWS=settings.rows, CHANNELS=block, WIDE=tl.float64 if rows.dtype == torch.float64 else tl.float32,
        num_warps=settings.warps, num_stages=settings.stages,
    )  # fmt: skip
    return pooled


def sort_members(
    token: torch.Tensor,
    node: torch.Tensor,
    node_ids: torch.Tensor,
    levels: torch.Tensor,
    level_weights: torch.Tensor | None,
    count: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Members of each token side by side: ``order``, ``weights`` and ``starts`` of `pool_members`.

    Args:
        token: ``[T*H*W]`` int64, the token of each patch.
        node: ``[T*H*W]`` int64, the kept node of each patch; ``node_ids``: ``[M]`` int64, their numbers in the tree.
        levels: ``[nodes]`` int64, level of each of the tree's nodes.
        level_weights: ``[levels, H*W]`` float32, weight of each patch in its node; None weighs all patches alike.
        count: number of tokens.
    """
    keys, order = torch.sort(token.to(torch.int32), stable=True)
    weights = torch.empty(len(token), dtype=torch.float32, device=token.device)
    starts = torch.empty(count + 1, dtype=torch.int32, device=token.device)
    by_level = level_weights is not None
    _order_kernel[(triton.cdiv(len(token), ORDER_ROWS),)](
        keys, order, node, node_ids, levels, level_weights if by_level else weights, weights, starts,
        len(token), level_weights.shape[1] if by_level else 1, count, BY_LEVEL=by_level, ROWS=ORDER_ROWS,
    )  # fmt: skip
    return order, weights, starts


def _must_widen(dtype: torch.dtype) -> bool:
    """Whether dot products need float32 inputs; the interpreter has no arithmetic in bfloat16."""
    interpreted = isinstance(_cosine_kernel, InterpretedFunction)
    return dtype not in (torch.float16, torch.bfloat16) or (interpreted and dtype == torch.bfloat16)


@triton.jit
def _group_sums(values, SIDE: tl.constexpr, LEVEL: tl.constexpr):
    """[SIDE] by slot to [SIDE / 4**LEVEL] by node."""
    return tl.sum(tl.reshape(values, (SIDE >> (2 * LEVEL), 1 << (2 * LEVEL))), axis=1)


@triton.jit
def _by_child(values, SIDE: tl.constexpr, COARSE: tl.constexpr, FINE: tl.constexpr):
    """By node of a level to by node of a finer one: each gets the value of its ancestor."""
    copies: tl.constexpr = 1 << (2 * (COARSE - FINE))
    spread = tl.broadcast_to(values[:, None], (SIDE >> (2 * COARSE), copies))
    return tl.reshape(spread, (SIDE >> (2 * FINE),))


@triton.jit
def _node_dots(
    gram, coarse_weights, fine_weights,
    SIDE: tl.constexpr, COARSE: tl.constexpr, FINE: tl.constexpr, COARSE_AXIS: tl.constexpr,
):  # fmt: skip
    """[SIDE / 4**FINE]: dot products of nodes with their ancestors, whose patches lie along COARSE_AXIS of ``gram``."""
    node = tl.arange(0, SIDE) >> (2 * COARSE)
    weights = coarse_weights[:, None] if COARSE_AXIS == 0 else coarse_weights[None, :]
    shared = tl.where(node[:, None] == node[None, :], gram * weights, 0.0)
    with_ancestor = tl.sum(shared, axis=COARSE_AXIS)  # [SIDE] each patch with its ancestor
    return _group_sums(with_ancestor * fine_weights, SIDE, FINE)


@triton.jit
def _lengths(gram, weights, SIDE: tl.constexpr, LEVEL: tl.constexpr):
    """[SIDE / 4**LEVEL]"""
    return tl.sqrt(tl.maximum(_node_dots(gram, weights, weights, SIDE, LEVEL, LEVEL, 0), 0.0))


@triton.jit
def _cosine(dots, first, second):
    """0 where a vector is zero."""
    scale = first * second
    cosine = tl.where(scale > 0, dots / tl.where(scale > 0, scale, 1.0), 0.0)
    return tl.minimum(tl.maximum(cosine, -1.0), 1.0)


@triton.jit
def _store_minima(cosines, nodes, children, out, SIDE: tl.constexpr, LEVEL: tl.constexpr):
    """Lowest cosine of each node with its children; 1 for a node with a single child."""
    parents: tl.constexpr = SIDE >> (2 * LEVEL)
    child = tl.load(children + tl.arange(0, parents * 4)) >= 0
    lowest = tl.min(tl.reshape(tl.where(child, cosines, 2.0), (parents, 4)), axis=1)
    count = tl.sum(tl.reshape(child.to(tl.int32), (parents, 4)), axis=1)
    node = tl.load(nodes + tl.arange(0, parents))
    tl.store(out + node, tl.where(count == 1, 1.0, lowest), mask=node >= 0)


@triton.jit
def _store_pairs(cosines, places, out, has_next, COUNT: tl.constexpr):
    place = tl.where(has_next, tl.load(places + tl.arange(0, COUNT)), -1)
    tl.store(out + place, cosines, mask=place >= 0)


@triton.jit
def _cosine_kernel(
    features, tile_rows, weights, nodes, pairs, child_min, pair_cosines, not_finite, lengths,
    num_frames, num_patches, num_internal, num_pairs, channels, frame_stride, row_stride,
    SIDE: tl.constexpr, LEVELS: tl.constexpr, CHANNELS: tl.constexpr, WIDEN: tl.constexpr, PRECISION: tl.constexpr,
    KEEP_LENGTHS: tl.constexpr,
):  # fmt: skip
    """All cosines of one tile in one frame, and to the next frame."""
    tile, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    tiles = tl.num_programs(0)
    slot = tl.arange(0, SIDE)
    row = tl.load(tile_rows + tile * SIDE + slot)
    has_next = frame + 1 < num_frames
    next_channels = tl.where(has_next, channels, 0)
    filled = (row >= 0)[:, None]
    rows = features + frame * frame_stride + row[:, None] * row_stride
    here = tl.zeros((SIDE, SIDE), tl.float32)
    across = tl.zeros((SIDE, SIDE), tl.float32)
    after = tl.zeros((SIDE, SIDE), tl.float32)
    for start in range(0, channels, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)[None, :]
        x = tl.load(rows + channel, mask=filled & (channel < channels), other=0.0)
        z = tl.load(rows + frame_stride + channel, mask=filled & (channel < next_channels), other=0.0)
        if WIDEN:
            x, z = x.to(tl.float32), z.to(tl.float32)
        here = tl.dot(x, tl.trans(x), here, input_precision=PRECISION)
        across = tl.dot(x, tl.trans(z), across, input_precision=PRECISION)
        after = tl.dot(z, tl.trans(z), after, input_precision=PRECISION)
    largest = tl.max(tl.max(tl.where(tl.abs(here) < float("inf"), 0, 1), axis=1), axis=0)  # a NaN is not below either
    tl.store(not_finite, 1, mask=largest > 0)
    out_minima = child_min + frame * num_internal - num_patches
    out_pairs = pair_cosines + frame * num_pairs
    level_weights, level_nodes = weights + tile * SIDE + slot, nodes + tile * SIDE
    lengths_here, lengths_after = (), ()  # by level
    for level in tl.static_range(LEVELS):
        own_weights = tl.load(level_weights + level * tiles * SIDE)
        lengths_here = lengths_here + (_lengths(here, own_weights, SIDE, level),)
        lengths_after = lengths_after + (_lengths(after, own_weights, SIDE, level),)
        if KEEP_LENGTHS:
            kept = lengths + ((frame * LEVELS + level) * tiles + tile) * SIDE + tl.arange(0, SIDE >> (2 * level))
            tl.store(kept, lengths_here[level])
    for coarse in tl.static_range(LEVELS):
        coarse_weights = tl.load(level_weights + coarse * tiles * SIDE)
        for fine in tl.static_range(coarse + 1):
            fine_weights = tl.load(level_weights + fine * tiles * SIDE)
            fine_here, fine_after = lengths_here[fine], lengths_after[fine]
            ancestor_here = _by_child(lengths_here[coarse], SIDE, coarse, fine)
            ancestor_after = _by_child(lengths_after[coarse], SIDE, coarse, fine)
            down = _node_dots(across, coarse_weights, fine_weights, SIDE, coarse, fine, 0)
            places = pairs + ((coarse * LEVELS + fine) * tiles + tile) * SIDE
            _store_pairs(_cosine(down, ancestor_here, fine_after), places, out_pairs, has_next, SIDE >> (2 * fine))
            if fine < coarse:
                up = _node_dots(across, coarse_weights, fine_weights, SIDE, coarse, fine, 1)
                places = pairs + ((fine * LEVELS + coarse) * tiles + tile) * SIDE
                _store_pairs(_cosine(up, fine_here, ancestor_after), places, out_pairs, has_next, SIDE >> (2 * fine))
            if fine + 1 == coarse:
                dots = _node_dots(here, coarse_weights, fine_weights, SIDE, coarse, fine, 0)
                cosines = _cosine(dots, ancestor_here, fine_here)
                parents, children = level_nodes + coarse * tiles * SIDE, level_nodes + fine * tiles * SIDE
                _store_minima(cosines, parents, children, out_minima, SIDE, coarse)


@triton.jit
def _mean_of_rows(frame, rows, weights, channel, num_rows, channels, patch_stride, ROWS: tl.constexpr):
    """[1, CHANNELS] weighted sum of some patches of a frame."""
    total = tl.zeros_like(channel).to(tl.float32)
    for start in range(0, num_rows, ROWS):
        place = start + tl.arange(0, ROWS)
        row = tl.load(rows + place, mask=place < num_rows, other=0)
        weight = tl.load(weights + place, mask=place < num_rows, other=0.0)
        inside = (weight > 0)[:, None] & (channel < channels)
        values = tl.load(frame + row[:, None] * patch_stride + channel, mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(values * weight[:, None], axis=0)[None, :]
    return total


@triton.jit
def _border_kernel(
    frames, nodes, rows, weights, minima, channels, num_rows, num_internal, frame_stride, patch_stride,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """One border node of one frame."""
    border, frame = tl.program_id(0), tl.program_id(1).to(tl.int64)
    features = frames + frame * frame_stride
    own_rows, own_weights = rows + border * 2 * num_rows, weights + border * 2 * num_rows
    dots = tl.zeros((1, CHANNELS), tl.float32)
    own_squares = tl.zeros((1, CHANNELS), tl.float32)
    other_squares = tl.zeros((1, CHANNELS), tl.float32)
    for start in range(0, channels, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)[None, :]
        own = _mean_of_rows(features, own_rows, own_weights, channel, num_rows, channels, patch_stride, ROWS)
        other = _mean_of_rows(
            features, own_rows + num_rows, own_weights + num_rows, channel, num_rows, channels, patch_stride, ROWS
        )
        dots += own * other
        own_squares += own * own
        other_squares += other * other
    lengths = tl.sqrt(tl.sum(own_squares, axis=1)), tl.sqrt(tl.sum(other_squares, axis=1))
    cosine = _cosine(tl.sum(dots, axis=1), lengths[0], lengths[1])
    place = minima + frame * num_internal + tl.load(nodes + border) + tl.arange(0, 1)
    tl.store(place, tl.minimum(tl.load(place), cosine))


@triton.jit(do_not_specialize=["count", "num_tokens"])
def _order_kernel(
    keys, order, node, node_ids, levels, level_weights, weights, starts, count, num_patches, num_tokens,
    BY_LEVEL: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Weights in sorted order, and where each token's members start."""
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = place < count
    key = tl.load(keys + place, mask=inside, other=0)
    before = tl.load(keys + place - 1, mask=inside & (place > 0), other=-1)
    tl.store(starts + key, place, mask=inside & (key != before))
    tl.store(starts + num_tokens + tl.zeros_like(place), count, mask=place == 0)
    if BY_LEVEL:
        row = tl.load(order + place, mask=inside, other=0)
        kept = tl.load(node_ids + tl.load(node + row, mask=inside, other=0), mask=inside, other=0)
        level = tl.load(levels + kept, mask=inside, other=0)
        weight = tl.load(level_weights + level * num_patches + row % num_patches, mask=inside, other=0.0)
    else:
        weight = tl.full((ROWS,), 1.0, tl.float32)
    tl.store(weights + place, weight, mask=inside)


@triton.jit
def _pool_kernel(
    rows, order, weights, starts, pooled, channels, row_stride,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """One block of channels of one merged token."""
    blocks = tl.cdiv(channels, CHANNELS)
    token = (tl.program_id(0) // blocks).to(tl.int64)
    channel = tl.program_id(0) % blocks * CHANNELS + tl.arange(0, CHANNELS)
    start, end = tl.load(starts + token), tl.load(starts + token + 1)
    total = tl.zeros((CHANNELS,), WIDE)
    total_weight = tl.zeros((ROWS,), WIDE)
    for first in range(start, end, ROWS):
        place = first + tl.arange(0, ROWS)
        row = tl.load(order + place, mask=place < end, other=0)
        weight = tl.load(weights + place, mask=place < end, other=0.0).to(WIDE)
        inside = (place < end)[:, None] & (channel < channels)[None, :]
        value = tl.load(rows + row[:, None] * row_stride + channel[None, :], mask=inside, other=0.0)
        total += tl.sum(value.to(WIDE) * weight[:, None], axis=0)
        total_weight += weight
    weight = tl.sum(total_weight, axis=0)
    # "/" on float32 is an approximation on the GPU: a mean of equal rows would not be that row
    mean = tl.div_rn(total, tl.zeros_like(total) + weight) if tl.float32 == WIDE else total / weight
    tl.store(pooled + token * channels + channel, mean.to(pooled.dtype.element_ty), mask=channel < channels)
