"""Which tensors the Triton kernels work on. Without Triton, and on other devices, PyTorch does all of it.

Triton launches on the current GPU, whichever one its arguments are on: call kernels inside
``with torch.cuda.device_of(tensor)``.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType

import torch


def kernels_for(tensor: torch.Tensor) -> ModuleType | None:
    """`sttm_core.methods.sttm.kernels` if ``tensor`` is on a CUDA device and Triton is installed, else None."""
    return _kernels() if tensor.is_cuda else None


@lru_cache(maxsize=1)
def _kernels() -> ModuleType | None:
    if find_spec("triton") is None:
        return None
    from . import kernels

    return kernels
