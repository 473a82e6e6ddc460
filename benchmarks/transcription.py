"""The method as it reads, in plain PyTorch: every node, every pair of nodes of two frames. For comparison only.

A node of a frame is compared with all nodes of the next one, ``O(T * M^2)`` work and memory for M nodes a frame, and a
mask then throws away the pairs whose boxes do not nest. Paper rules, plain means (algorithm, sections 1 to 3).
"""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from sttm_core import Quadtree


def merge_pairwise(
    tokens: torch.Tensor, tree: Quadtree, tau_spatial: float, tau_temporal: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Merge ``tokens [T, H, W, C]``; returns ``[N, C]`` and their ``[N, 5]`` boxes (t, y0, x0, y1, x1)."""
    features = node_features(tokens.flatten(1, 2).float(), tree)  # [T, nodes, C]
    unit = normalize(features, dim=-1)
    kept = keep(unit, tree, tau_spatial)  # [T, nodes] bool
    links = unit[:-1] @ unit[1:].mT >= tau_temporal  # [T-1, nodes, nodes]
    links &= nesting(tree, tokens.device) & kept[:-1, :, None] & kept[1:, None, :]
    return collect(features, kept, links, tree, tokens.dtype)


def node_features(patches: torch.Tensor, tree: Quadtree) -> torch.Tensor:
    """``[T, nodes, C]``: patches first, then each level as the mean of its children."""
    levels = [patches]
    for level in range(1, tree.num_levels):
        start, end = tree.level_offsets[level : level + 2]
        parents = torch.tensor(tree.parents[tree.level_offsets[level - 1] : start] - start, device=patches.device)
        sums = patches.new_zeros(len(patches), end - start, patches.shape[-1]).index_add_(1, parents, levels[-1])
        counts = torch.bincount(parents, minlength=end - start)
        levels.append(sums / counts[:, None])
    return torch.cat(levels, dim=1)


def keep(unit: torch.Tensor, tree: Quadtree, tau: float) -> torch.Tensor:
    """``[T, nodes]``: nodes that the search from the root grid down keeps."""
    parents = torch.tensor(tree.parents, device=unit.device)
    below = parents >= 0
    cosines = (unit[:, below] * unit[:, parents[below]]).sum(-1)  # [T, nodes below the root grid]
    whole = torch.ones(unit.shape[:2], device=unit.device)
    whole.scatter_reduce_(1, parents[below].expand(len(unit), -1), (cosines >= tau).float(), "amin")
    reached = torch.ones_like(whole, dtype=torch.bool)
    for level in reversed(range(tree.num_levels - 1)):
        start, end = tree.level_offsets[level : level + 2]
        above = parents[start:end]
        reached[:, start:end] = reached[:, above] & (whole[:, above] == 0)
    whole[:, : tree.num_patches] = 1
    return reached & (whole > 0)


def nesting(tree: Quadtree, device: torch.device) -> torch.Tensor:
    """``[nodes, nodes]`` bool: one box contains the other."""
    y0, x0, y1, x1 = torch.tensor(tree.boxes, device=device).T
    inside = (y0[:, None] >= y0) & (x0[:, None] >= x0) & (y1[:, None] <= y1) & (x1[:, None] <= x1)
    return inside | inside.T


def collect(
    features: torch.Tensor, kept: torch.Tensor, links: torch.Tensor, tree: Quadtree, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    frame, node = kept.nonzero(as_tuple=True)
    boxes = torch.tensor(tree.boxes, device=frame.device)[node]
    order = torch.argsort((frame * tree.height + boxes[:, 0]) * tree.width + boxes[:, 1])
    frame, node, boxes = frame[order], node[order], boxes[order]
    index = torch.zeros(kept.shape, dtype=torch.int64, device=frame.device)
    index[frame, node] = torch.arange(len(frame), device=frame.device)
    time, earlier, later = links.nonzero(as_tuple=True)
    labels = propagate(index[time, earlier], index[time + 1, later], len(frame))
    leaders, token, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    sums = features.new_zeros(len(leaders), features.shape[-1]).index_add_(0, token, features[frame, node])
    return (sums / counts[:, None]).to(dtype), torch.cat([frame[:, None], boxes], dim=1)[leaders]


def propagate(first: torch.Tensor, second: torch.Tensor, count: int) -> torch.Tensor:
    """Take the smaller label across every link until nothing changes."""
    labels = torch.arange(count, device=first.device)
    while True:
        smaller = torch.minimum(labels[first], labels[second])
        updated = labels.scatter_reduce(0, first, smaller, "amin").scatter_reduce(0, second, smaller, "amin")
        updated = updated[updated]
        if torch.equal(updated, labels):
            return labels
        labels = updated
