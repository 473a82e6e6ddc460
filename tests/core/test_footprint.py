"""What things hold in memory: each allocation once, wherever it is reached from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch

from sttm_core.footprint import Footprint, allocations, footprint


@dataclass(frozen=True, eq=False)
class Box:
    inside: Any

    @cached_property
    def made(self) -> torch.Tensor:
        return torch.ones(50, dtype=torch.uint8)


class Stranger:
    def __init__(self) -> None:
        self.inside = torch.ones(7)


def with_cache() -> Box:
    box = Box(torch.ones(3, dtype=torch.uint8))
    assert box.made.sum() == 50
    return box


def loop() -> list:
    ring: list = [torch.ones(8, dtype=torch.uint8)]
    ring.append(ring)
    return ring


SHARED = torch.ones(100, dtype=torch.float32)
PIXELS = np.ones((10, 10), dtype=np.uint8)


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        (None, 0),
        (torch.ones(10, dtype=torch.float16), 20),
        ([SHARED, SHARED], 400),
        ((SHARED, SHARED[:5], SHARED.view(10, 10).T), 400),
        (SHARED[:5], 400),  # a view keeps all of it
        ({"a": PIXELS, "b": [PIXELS[2:4, ::2]]}, 100),
        ((PIXELS, torch.from_numpy(PIXELS)), 100),
        (Box(Box({"deep": (SHARED,)})), 400),
        (Box(None), 0),  # what was not made yet
        (with_cache(), 53),
        (loop(), 8),
        (torch.ones(5, device="meta"), 0),
        (torch.ones(0), 0),
        (Stranger(), 0),  # not entered
    ],
)
def test_bytes_of_what_can_be_reached(thing: Any, expected: int) -> None:
    assert footprint(allocations(thing)) == Footprint(host=expected)


@pytest.mark.gpu
def test_kinds_of_memory_are_counted_apart() -> None:
    both = [torch.ones(1000, device="cuda"), torch.ones(10)]
    assert footprint(allocations(both, Box(both))) == Footprint(host=40, device=4000)


@pytest.mark.parametrize(("host", "device", "fits"), [(5, 5, True), (6, 5, False), (5, 6, False), (0, 0, True)])
def test_each_kind_has_its_own_bound(host: int, device: int, fits: bool) -> None:
    assert Footprint(host, device).fits(Footprint(5, 5)) is fits
