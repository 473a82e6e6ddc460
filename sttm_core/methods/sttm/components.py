"""Which linked nodes become one token: connected components, and the released code's unfinished version of them."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .quadtree import lookup


def smallest_labels(first: torch.Tensor, second: torch.Tensor, num_nodes: int) -> torch.Tensor:
    """Smallest node index in each node's connected component (paper section 3.2).

    Args:
        first, second: ``[K]`` int64, the two ends of each link.
        num_nodes: nodes are ``0 .. num_nodes - 1``.

    Returns:
        ``[num_nodes]`` int64 on the device of ``first``.
    """
    if first.device.type == "cpu":
        return _scipy_labels(first, second, num_nodes)
    return _propagated_labels(first, second, num_nodes)


def released_labels(first: torch.Tensor, second: torch.Tensor, num_nodes: int) -> torch.Tensor:
    """Labels as the released code leaves them: links whose ends still differ may stay open (algorithm, section 3)."""
    labels = torch.arange(num_nodes, device=first.device)
    while True:
        smaller = torch.minimum(lookup(labels, first), lookup(labels, second))
        labels = labels.scatter_reduce(0, first, smaller, "amin").scatter_reduce(0, second, smaller, "amin")
        labels = lookup(labels, labels)
        if torch.equal(lookup(labels, labels), labels):
            return labels


def _scipy_labels(first: torch.Tensor, second: torch.Tensor, num_nodes: int) -> torch.Tensor:
    ends = (first.numpy(), second.numpy())
    graph = coo_matrix((np.ones(len(first), dtype=np.int8), ends), shape=(num_nodes, num_nodes))
    count, component = connected_components(graph, directed=False)
    smallest = np.empty(count, dtype=np.int64)
    smallest[component[::-1]] = np.arange(num_nodes)[::-1]  # where an index repeats, the last value stays
    return torch.from_numpy(smallest[component])


def _propagated_labels(first: torch.Tensor, second: torch.Tensor, num_nodes: int) -> torch.Tensor:
    """Hook each root to its smallest neighbour's root, then halve all paths, until both ends of each link agree."""
    labels = torch.arange(num_nodes, device=first.device)
    while True:
        a, b = labels[first], labels[second]
        if torch.equal(a, b):
            return labels
        smaller, larger = torch.minimum(a, b), torch.maximum(a, b)
        labels = labels.scatter_reduce(0, larger, smaller, "amin")
        while not torch.equal(labels, shorter := labels[labels]):
            labels = shorter
