"""Triton kernels of vision encoders: one pass over memory each. See `operations` for what they compute.

Importing this module needs Triton. `operations` does so only for CUDA tensors. With ``TRITON_INTERPRET=1`` in the
environment before the import everything here runs on CPU tensors, slowly.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl

LONGEST_ROW = 8192  # channels that `rms_norm` holds in registers
VALUES = 4096  # of a program that treats each value by itself
EXACT = {"enable_fp_fusion": False}  # products are rounded before they are added, as PyTorch's are


def turn_(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """`operations.turn_`; ``heads [N, H, D]`` with H and D contiguous."""
    count, number, channels = heads.shape
    if heads.stride()[1:] != (channels, 1):
        raise ValueError(f"heads must lie next to each other, got strides {heads.stride()}.")
    half = channels // 2
    blocks = {"HEAD_BLOCK": triton.next_power_of_2(number), "BLOCK": triton.next_power_of_2(half)}
    with _on(heads):
        _turn_kernel[(count,)](
            heads, cos.contiguous(), sin.contiguous(), heads.stride(0), HEADS=number, HALF=half, **blocks,
            num_warps=4, **EXACT,
        )  # fmt: skip
    return heads


def rms_norm(rows: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """`operations.rms_norm` of contiguous rows of at most `LONGEST_ROW` channels."""
    made, channels = torch.empty_like(rows), rows.shape[-1]
    block = triton.next_power_of_2(channels)
    with _on(rows):
        _rms_kernel[(rows.numel() // channels,)](
            rows, weight, made, epsilon, channels, BLOCK=block, num_warps=max(1, min(8, block // 512)), **EXACT
        )
    return made


def silu_times_(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """`operations.silu_times_` of contiguous tensors."""
    with _on(gate):
        _silu_kernel[(triton.cdiv(gate.numel(), VALUES),)](gate, up, gate.numel(), BLOCK=VALUES, num_warps=8, **EXACT)
    return gate


def quick_gelu_(values: torch.Tensor) -> torch.Tensor:
    """`operations.quick_gelu_` of a contiguous tensor."""
    with _on(values):
        _quick_gelu_kernel[(triton.cdiv(values.numel(), VALUES),)](
            values, values.numel(), BLOCK=VALUES, num_warps=8, **EXACT
        )
    return values


def _on(tensor: torch.Tensor) -> AbstractContextManager:
    """Triton launches on the current GPU, whichever one its arguments are on."""
    return torch.cuda.device_of(tensor) if tensor.is_cuda else nullcontext()


@triton.jit
def _turn_kernel(
    heads, cos, sin, row_stride,
    HEADS: tl.constexpr, HALF: tl.constexpr, HEAD_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """All heads of one token."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, HEAD_BLOCK)[:, None]
    channel = tl.arange(0, BLOCK)[None, :]
    inside = (head < HEADS) & (channel < HALF)
    places = heads + row * row_stride + head * (2 * HALF) + channel
    first = tl.load(places, mask=inside, other=0).to(tl.float32)
    second = tl.load(places + HALF, mask=inside, other=0).to(tl.float32)
    angle, known = row * (2 * HALF) + channel, channel < HALF
    cos_first = tl.load(cos + angle, mask=known, other=0).to(tl.float32)
    sin_first = tl.load(sin + angle, mask=known, other=0).to(tl.float32)
    cos_second = tl.load(cos + HALF + angle, mask=known, other=0).to(tl.float32)
    sin_second = tl.load(sin + HALF + angle, mask=known, other=0).to(tl.float32)
    kind = heads.dtype.element_ty
    tl.store(places, (first * cos_first - second * sin_first).to(kind), mask=inside)
    tl.store(places + HALF, (second * cos_second + first * sin_second).to(kind), mask=inside)


@triton.jit
def _rms_kernel(rows, weight, made, epsilon, channels, BLOCK: tl.constexpr):
    """One row."""
    channel = tl.arange(0, BLOCK)
    inside = channel < channels
    place = tl.program_id(0).to(tl.int64) * channels + channel
    kind = rows.dtype.element_ty
    row = tl.load(rows + place, mask=inside, other=0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(row * row) / channels + epsilon)
    even = (row * scale).to(kind).to(tl.float32)
    gain = tl.load(weight + channel, mask=inside, other=0).to(tl.float32)
    tl.store(made + place, (even * gain).to(kind), mask=inside)


@triton.jit
def _silu_kernel(gate, up, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    kind = gate.dtype.element_ty
    value = tl.load(gate + place, mask=inside, other=0).to(tl.float32)
    opened = (value / (1 + tl.exp(-value))).to(kind).to(tl.float32)
    factor = tl.load(up + place, mask=inside, other=0).to(tl.float32)
    tl.store(gate + place, (opened * factor).to(kind), mask=inside)


@triton.jit
def _quick_gelu_kernel(values, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    kind = values.dtype.element_ty
    value = tl.load(values + place, mask=inside, other=0).to(tl.float32)
    steep = (1.702 * value).to(kind).to(tl.float32)
    opened = (1 / (1 + tl.exp(-steep))).to(kind).to(tl.float32)
    tl.store(values + place, (value * opened).to(kind), mask=inside)
