"""How many bytes of tensors a computation holds at once, counted on any device."""

from __future__ import annotations

import weakref
from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts the storages that are made inside a ``with``; `peak` is the most that lived at once, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.holders: Counter[int] = Counter()
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {leaf.untyped_storage().data_ptr() for leaf in _tensors((args, kwargs or {}))}
        out = func(*args, **(kwargs or {}))
        for leaf in _tensors(out):
            key = leaf.untyped_storage().data_ptr()
            if key in self.sizes or (key and key not in given):
                self._hold(leaf, key)
        return out

    def _hold(self, leaf: torch.Tensor, key: int) -> None:
        if not self.holders[key]:
            self.sizes[key] = leaf.untyped_storage().nbytes()
            self.now += self.sizes[key]
            self.peak = max(self.peak, self.now)
        self.holders[key] += 1
        weakref.finalize(leaf, self._release, key)

    def _release(self, key: int) -> None:
        self.holders[key] -= 1
        if not self.holders[key]:
            self.now -= self.sizes.pop(key)


def _tensors(tree: object) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
