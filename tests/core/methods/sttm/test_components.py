"""Connected components against a walk along the links, and the released loop against its description."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sttm_core.methods.sttm import components
from sttm_core.methods.sttm.components import released_labels, smallest_labels
from tests.core import naive

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()

GRAPHS = {
    "no links": ([], 5),
    "no nodes": ([], 0),
    "one link": ([(1, 3)], 4),
    "the same link twice": ([(0, 2), (0, 2)], 3),
    "chain": ([(i, i + 1) for i in range(40)], 41),
    "chain, last link first": ([(i, i + 1) for i in reversed(range(40))], 41),
    "star": ([(0, i) for i in range(1, 9)], 9),
    "many to one": ([(i, 8) for i in range(8)], 9),
    "two components that interleave": ([(0, 4), (1, 5), (4, 8), (5, 9)], 10),
    "zigzag": ([(9 - i // 2, 10 + (i + 1) // 2) for i in range(19)], 20),
    "circle": ([(0, 2), (1, 2), (1, 3), (0, 3)], 4),
}


def layered_links(seed: int, layers: int = 6, width: int = 30, density: float = 0.04) -> tuple[list, int]:
    """Random links between consecutive layers, like links between frames."""
    rng = np.random.default_rng(seed)
    links = [
        (layer * width + a, (layer + 1) * width + b)
        for layer in range(layers - 1)
        for a, b in np.argwhere(rng.random((width, width)) < density).tolist()
    ]
    return links, layers * width


def ends(links: list[tuple[int, int]], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    table = torch.tensor(links, dtype=torch.int64, device=device).reshape(-1, 2)
    return table[:, 0], table[:, 1]


CASES = [*GRAPHS.values(), *(layered_links(seed) for seed in range(12))]
NAMES = [*GRAPHS, *(f"layers {seed}" for seed in range(12))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("links", "count"), CASES, ids=NAMES)
def test_labels_are_the_smallest_node_of_the_component(links, count, device):
    labels = smallest_labels(*ends(links, device), count)
    assert labels.dtype == torch.int64 and labels.device.type == device
    assert labels.tolist() == naive.true_labels(links, count)


@pytest.mark.parametrize(("links", "count"), CASES, ids=NAMES)
def test_the_routine_for_gpus_gives_the_same_labels_on_a_cpu(links, count):
    assert components._propagated_labels(*ends(links, "cpu"), count).tolist() == naive.true_labels(links, count)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("links", "count"), CASES, ids=NAMES)
def test_the_released_loop_leaves_open_what_it_leaves_open(links, count, device):
    labels = released_labels(*ends(links, device), count)
    assert labels.dtype == torch.int64 and labels.device.type == device
    assert labels.tolist() == naive.labels_left_open(links, count)


def test_the_two_differ_where_links_zigzag_and_nowhere_on_stars():
    differing = [
        name
        for name, (links, count) in zip(NAMES, CASES, strict=True)
        if not torch.equal(smallest_labels(*ends(links, "cpu"), count), released_labels(*ends(links, "cpu"), count))
    ]
    assert any(name.startswith("layers") for name in differing)
    assert not {"no links", "no nodes", "one link", "the same link twice", "star"} & set(differing)
