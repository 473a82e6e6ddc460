"""How much memory things hold, by the allocations behind them: a tensor that two of them share is one allocation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Footprint:
    """Bytes in main memory and in the memory of GPUs (or other accelerators) together."""

    host: int = 0
    device: int = 0

    def fits(self, within: Footprint) -> bool:
        """Whether neither kind of memory is more than in ``within``."""
        return self.host <= within.host and self.device <= within.device


Allocations = dict[tuple[str, int], int]  # bytes by device and address


def allocations(*things: Any) -> Allocations:
    """The memory behind all tensors and arrays that can be reached from ``things``.

    It is found in tensors, NumPy arrays, mappings, lists, tuples and sets, and in all that dataclasses hold, their
    cached properties included. A view counts as the whole that it keeps alive. Other objects are not entered.
    """
    found: Allocations = {}
    for buffer in _buffers(list(things)):
        key, size = _allocation(buffer)
        found[key] = max(size, found.get(key, 0))
    return {key: size for key, size in found.items() if size}


def footprint(held: Allocations) -> Footprint:
    """Their sums by kind of memory."""
    host = sum(size for (device, _), size in held.items() if device == "cpu")
    return Footprint(host, sum(held.values()) - host)


def _buffers(things: list[Any]) -> Iterator[torch.Tensor | np.ndarray]:
    entered: set[int] = set()
    while things:
        thing = things.pop()
        if isinstance(thing, (torch.Tensor, np.ndarray)):
            yield thing
        elif id(thing) not in entered:
            entered.add(id(thing))
            things.extend(_parts(thing))


def _parts(thing: Any) -> list[Any]:
    if isinstance(thing, Mapping):
        return list(thing.values())
    if isinstance(thing, (list, tuple, set, frozenset)):
        return list(thing)
    return list(vars(thing).values()) if is_dataclass(thing) and hasattr(thing, "__dict__") else []


def _allocation(buffer: torch.Tensor | np.ndarray) -> tuple[tuple[str, int], int]:
    """Where it is, and its bytes."""
    if isinstance(buffer, torch.Tensor):
        if buffer.device.type == "meta":
            return ("meta", 0), 0
        storage = buffer.untyped_storage()
        return (str(buffer.device), storage.data_ptr()), storage.nbytes()
    while isinstance(buffer.base, np.ndarray):
        buffer = buffer.base
    return ("cpu", buffer.__array_interface__["data"][0]), buffer.nbytes
