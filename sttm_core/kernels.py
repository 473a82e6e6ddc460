"""Triton versions of the two passes over the features, and of the chains between them; used on CUDA.

Pass one (`gram_matrices`) reads the features once from memory and writes small Gram matrices; pass two (`pool_rows`)
reads them once more and writes the merged tokens. Neither makes a padded or widened copy of the features, and neither
uses atomics: the same input gives the same bits. `chain_labels` joins linked nodes without asking the host whether it
is done; its atomics race, its result does not depend on who wins.

Importing this module needs Triton. `sttm_core` does so only for CUDA tensors, see `sttm_core.dispatch`. With
``TRITON_INTERPRET=1`` in the environment before the import everything here runs on CPU tensors, slowly.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction

MIN_DOT = 16  # smallest side of a matrix that tl.dot takes
MAX_DOT = 64  # Gram matrices of larger cells are written in blocks of this size
CHANNELS, WIDE_CHANNELS = 64, 32  # channels loaded at a time, of 2 bytes and of more
POOL_CHANNELS, POOL_ROWS = 128, 16
LINKS = 128


def gram_matrices(frames: torch.Tensor, cell_patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Dot products between the patches of each cell, within a frame and to the next one (algorithm, section 5).

    Args:
        frames: ``[F, H*W, C]``, any float dtype, the last dimension contiguous.
        cell_patches: ``[cells, P]`` int64, which patches make up each cell.

    Returns:
        ``[F, cells, P, P]`` and ``[F-1, cells, P, P]``, float32 accumulated in float32.
    """
    count, _, channels = frames.shape
    cells, size = cell_patches.shape
    side = min(MAX_DOT, max(MIN_DOT, triton.next_power_of_2(size)))
    blocks = triton.cdiv(size, side)
    within = torch.empty(count, cells, size, size, dtype=torch.float32, device=frames.device)
    between = torch.empty(count - 1, cells, size, size, dtype=torch.float32, device=frames.device)
    wide = _must_widen(frames.dtype)
    stages = 2 if wide else 4 if side == MIN_DOT else 3  # keeps shared memory below 80 KB for every dtype
    _gram_kernel[(cells, count, blocks * blocks)](
        frames, cell_patches, within, between if count > 1 else within, count, cells, size, channels, frames.stride(0),
        frames.stride(1), SIDE=side, CHANNELS=WIDE_CHANNELS if wide else CHANNELS, WIDEN=wide,
        num_warps=1 if side == MIN_DOT else 4, num_stages=stages,
    )  # fmt: skip
    return within, between


def pool_rows(rows: torch.Tensor, token: torch.Tensor, weights: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Weighted sums of rows, ``[R, C]`` into ``[N, C]`` of the same dtype, accumulated in at least float32.

    Args:
        rows: ``[R, C]``, the last dimension contiguous.
        token: ``[R]`` int64, the output row that each row goes into.
        weights: ``[R]`` float32.
        counts: ``[N]`` int64, rows that go into each output row.
    """
    members = torch.argsort(token, stable=True)
    ends = torch.cumsum(counts, 0)
    pooled = torch.empty(len(counts), rows.shape[1], dtype=rows.dtype, device=rows.device)
    _pool_kernel[(len(counts), triton.cdiv(rows.shape[1], POOL_CHANNELS))](
        rows, members, weights, counts, ends, pooled, rows.shape[1], rows.stride(0),
        ROWS=POOL_ROWS, CHANNELS=POOL_CHANNELS, WIDE=tl.float64 if rows.dtype == torch.float64 else tl.float32,
        num_warps=4,
    )  # fmt: skip
    return pooled


def chain_labels(first: torch.Tensor, second: torch.Tensor, num_nodes: int) -> torch.Tensor:
    """Smallest node in each node's connected component, as `components.smallest_labels`; the host never waits."""
    labels = torch.arange(num_nodes, device=first.device)
    if len(first):
        first, second = first.contiguous(), second.contiguous()  # columns of [K, 2] come with gaps
        _join_kernel[(triton.cdiv(len(first), LINKS),)](first, second, labels, len(first), LINKS=LINKS)
    found = torch.empty_like(labels)
    _follow_kernel[(triton.cdiv(num_nodes, LINKS),)](labels, found, num_nodes, NODES=LINKS)
    return found


def _must_widen(dtype: torch.dtype) -> bool:
    """Whether dot products need float32 inputs; the interpreter has no arithmetic in bfloat16."""
    interpreted = isinstance(_gram_kernel, InterpretedFunction)
    return dtype not in (torch.float16, torch.bfloat16) or (interpreted and dtype == torch.bfloat16)


@triton.jit
def _gram_kernel(
    frames, cell_patches, within, between, num_frames, num_cells, size, channels, frame_stride, patch_stride,
    SIDE: tl.constexpr, CHANNELS: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """One block of one cell's Gram matrices in one frame: [SIDE, SIDE] of the frame with itself and with the next."""
    cell, frame, block = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    blocks = tl.cdiv(size, SIDE)
    left = block // blocks * SIDE + tl.arange(0, SIDE)
    right = block % blocks * SIDE + tl.arange(0, SIDE)
    left_patch = tl.load(cell_patches + cell * size + left, mask=left < size, other=0)
    right_patch = tl.load(cell_patches + cell * size + right, mask=right < size, other=0)
    size_next = tl.where(frame + 1 < num_frames, size, 0)  # the last frame has no next one
    left_rows = frames + frame * frame_stride + left_patch[:, None] * patch_stride
    right_rows = frames + frame * frame_stride + right_patch[:, None] * patch_stride
    self_dots = tl.zeros((SIDE, SIDE), tl.float32)
    next_dots = tl.zeros((SIDE, SIDE), tl.float32)
    for start in range(0, channels, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)
        inside = (channel < channels)[None, :]
        x = tl.load(left_rows + channel[None, :], mask=(left < size)[:, None] & inside, other=0.0)
        y = tl.load(right_rows + channel[None, :], mask=(right < size)[:, None] & inside, other=0.0)
        next_rows = right_rows + frame_stride + channel[None, :]
        z = tl.load(next_rows, mask=(right < size_next)[:, None] & inside, other=0.0)
        if WIDEN:
            x, y, z = x.to(tl.float32), y.to(tl.float32), z.to(tl.float32)
        self_dots = tl.dot(x, tl.trans(y), self_dots, input_precision="ieee")
        next_dots = tl.dot(x, tl.trans(z), next_dots, input_precision="ieee")
    place = ((frame * num_cells + cell) * size + left[:, None]) * size + right[None, :]
    tl.store(within + place, self_dots, mask=(left < size)[:, None] & (right < size)[None, :])
    tl.store(between + place, next_dots, mask=(left < size)[:, None] & (right < size_next)[None, :])


@triton.jit
def _pool_kernel(
    rows, members, weights, counts, ends, pooled, channels, row_stride,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """One block of channels of one merged token."""
    token = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    end = tl.load(ends + token)
    total = tl.zeros((CHANNELS,), WIDE)
    for start in range(end - tl.load(counts + token), end, ROWS):
        place = start + tl.arange(0, ROWS)
        row = tl.load(members + place, mask=place < end, other=0)
        weight = tl.load(weights + row, mask=place < end, other=0.0).to(WIDE)
        value = tl.load(
            rows + row[:, None] * row_stride + channel[None, :],
            mask=(place < end)[:, None] & (channel < channels)[None, :],
            other=0.0,
        )
        total += tl.sum(value.to(WIDE) * weight[:, None], axis=0)
    tl.store(pooled + token * channels + channel, total.to(pooled.dtype.element_ty), mask=channel < channels)


@triton.jit
def _join_kernel(first, second, labels, num_links, LINKS: tl.constexpr):
    """Point the larger root of each link's two trees at the smaller one; walks down where it is no root any more."""
    link = tl.program_id(0) * LINKS + tl.arange(0, LINKS)
    link = tl.where(link < num_links, link, 0)  # joining a pair twice changes nothing
    a, b = tl.load(first + link), tl.load(second + link)
    while tl.max((a != b).to(tl.int32), axis=0) > 0:
        larger, smaller = tl.maximum(a, b), tl.minimum(a, b)
        above = tl.atomic_cas(labels + larger, larger, smaller)  # what it pointed at: itself if it was a root
        b = tl.where((a == b) | (above == larger), smaller, above)
        a = smaller


@triton.jit
def _follow_kernel(labels, found, num_nodes, NODES: tl.constexpr):
    """Walk from each node to the root of its tree, which is its smallest node."""
    node = tl.program_id(0) * NODES + tl.arange(0, NODES)
    here = tl.load(labels + node, mask=node < num_nodes, other=0)
    above = tl.load(labels + here)
    while tl.max((here != above).to(tl.int32), axis=0) > 0:
        here = above
        above = tl.load(labels + here)
    tl.store(found + node, here, mask=node < num_nodes)
