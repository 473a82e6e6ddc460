"""Operations of vision encoders that are bound by memory: in one pass by Triton on a GPU, else by PyTorch.

Both round as the modules of transformers do: what those keep in float32 is float32 here, and what they round to the
dtype of the features is rounded. Names that end in ``_`` write into their first argument. None knows gradients.
"""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import nn

ALIGNED_BYTES = 16  # rows of matrices that are no multiple of this take tensor cores three times as long


def kernels_for(tensor: torch.Tensor) -> ModuleType | None:
    """`sttm_core.vision.kernels` if ``tensor`` is on a CUDA device and Triton is installed, else None."""
    return _kernels() if tensor.is_cuda else None


@lru_cache(maxsize=1)
def _kernels() -> ModuleType | None:
    if find_spec("triton") is None:
        return None
    from . import kernels

    return kernels


def turn_(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of ``heads [N, H, D]`` in place by ``cos`` and ``sin [N, D]``, in float32, rounded once.

    As `apply_rotary_pos_emb_vision`: channel i is turned with channel i + D/2.
    """
    fast = kernels_for(heads)
    if fast is not None:
        return fast.turn_(heads, cos, sin)
    cos, sin = cos.float()[:, None].chunk(2, -1), sin.float()[:, None].chunk(2, -1)  # [N, 1, D/2] each
    first, second = heads.float().chunk(2, -1)
    turned = first * cos[0] - second * sin[0], second * cos[1] + first * sin[1]
    for half, of in zip(heads.chunk(2, -1), turned, strict=True):
        half.copy_(of)
    return heads


def rms_norm(rows: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """``rows [..., C]`` over their root mean square in float32, rounded, times ``weight [C]``."""
    fast = kernels_for(rows)
    if fast is not None and rows.shape[-1] <= fast.LONGEST_ROW and rows.is_contiguous():
        return fast.rms_norm(rows, weight, epsilon)
    wide = rows.float()
    return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)).to(rows.dtype)


def silu_times_(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """``silu(gate) * up`` into ``gate``."""
    fast = kernels_for(gate)
    if fast is not None and gate.is_contiguous() and up.is_contiguous():
        return fast.silu_times_(gate, up)
    return nn.functional.silu(gate, inplace=True).mul_(up)


def quick_gelu_(values: torch.Tensor) -> torch.Tensor:
    """``values * sigmoid(1.702 * values)`` into ``values``."""
    fast = kernels_for(values)
    if fast is not None and values.is_contiguous():
        return fast.quick_gelu_(values)
    return values.mul_((1.702 * values).sigmoid_())


def linear_gelu(linear: nn.Linear, rows: torch.Tensor) -> torch.Tensor:
    """GELU by tanh of a linear layer, ``[..., C]`` to ``[..., E]``: on CUDA cuBLAS applies it to its sums."""
    if not rows.is_cuda or linear.bias is None:
        return nn.functional.gelu(linear(rows), approximate="tanh")
    flat = rows.reshape(-1, rows.shape[-1])
    made = torch._addmm_activation(linear.bias, flat, linear.weight.t(), use_gelu=True)
    return made.view(*rows.shape[:-1], -1)


def patch_product(images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """A convolution whose stride is its kernel, as one matrix product.

    Args:
        images: ``[N, C, *sizes]``; what is left of a size behind the last whole patch is not read.
        weight: ``[E, C, *patch]``, of two or three dimensions more than E and C.

    Returns:
        ``[N, E, *counts]``, with the E channels of a patch next to each other in memory.
    """
    patch = weight.shape[2:]
    counts = [size // side for size, side in zip(images.shape[2:], patch, strict=True)]
    rows = _patch_rows(images, patch, counts)
    matrix = weight.flatten(1)
    if rows.shape[1] != matrix.shape[1]:
        matrix = nn.functional.pad(matrix, (0, rows.shape[1] - matrix.shape[1]))
    made = nn.functional.linear(rows, matrix, bias)
    return made.view(len(images), *counts, -1).movedim(-1, 1)


def _patch_rows(images: torch.Tensor, patch: torch.Size, counts: list[int]) -> torch.Tensor:
    """``[N * patches, C * patch]``, with zeros behind where a row would not be aligned."""
    if all(count == 1 for count in counts) and images.shape[2:] == patch:
        return images.flatten(1)
    for axis, (side, count) in enumerate(zip(patch, counts, strict=True), 2):
        images = images.narrow(axis, 0, side * count)
    for axis, (side, count) in reversed(list(enumerate(zip(patch, counts, strict=True), 2))):
        images = images.unflatten(axis, (count, side))  # [N, C, count, side, count, side]
    axes = range(2, images.ndim)
    images = images.permute(0, *axes[::2], 1, *axes[1::2])  # [N, count, count, C, side, side]
    length = math.prod(images.shape[-len(patch) - 1 :])
    step = ALIGNED_BYTES // images.element_size()
    padded = -(-length // step) * step
    if padded == length:
        return images.reshape(-1, length)
    rows = images.new_zeros(len(images) * math.prod(counts), padded)
    rows[:, :length].view(images.shape).copy_(images)
    return rows
