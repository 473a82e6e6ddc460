"""The octree ablation with nodes as objects, by recursion in float64. Written from the method's description alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from tests.core.methods.inputs import Reduced, cosine

Place = tuple[int, int, int]


@dataclass
class Node:
    feature: np.ndarray
    patches: list[int]
    children: list[Node]

    @property
    def likeness(self) -> float:
        return min(cosine(self.feature, child.feature) for child in self.children)


def groups(length: int) -> list[list[int]]:
    start = length % 2
    return [[0]] * start + [[i, i + 1] for i in range(start, length, 2)]


def root_nodes(video: np.ndarray, first_frame: int, frames: int, in_time: bool, root_level: int) -> list[Node]:
    """Nodes of the root grid over ``frames`` frames from ``first_frame`` on."""
    height, width = video.shape[1:3]
    grid: dict[Place, Node] = {}
    for t, y, x in product(range(frames), range(height), range(width)):
        place = ((first_frame + t) * height + y) * width + x
        grid[t, y, x] = Node(video[first_frame + t, y, x].astype(np.float64), [place], [])
    levels, sides = [grid], (frames, height, width)
    while min(sides if in_time else sides[1:]) > 2:
        coarse: dict[Place, Node] = {}
        for places in product(*(list(enumerate(groups(side))) for side in sides)):
            children = [levels[-1][inner] for inner in product(*(members for _, members in places))]
            mean = sum(child.feature for child in children) / len(children)
            patches = sorted(patch for child in children for patch in child.patches)
            coarse[tuple(index for index, _ in places)] = Node(mean, patches, children)
        levels.append(coarse)
        sides = tuple(len(groups(side)) for side in sides)
    return list(levels[max(0, len(levels) - 1 - root_level)].values())


def forest(video: np.ndarray, snippet: int | None = None, root_level: int = 1) -> list[Node]:
    """Root nodes of all snippets, then of the frames that are left over."""
    length = snippet or video.shape[2]
    roots, start = [], 0
    while start + length <= len(video):
        roots += root_nodes(video, start, length, True, root_level)
        start += length
    for frame in range(start, len(video)):
        roots += root_nodes(video, frame, 1, False, root_level)
    return roots


def all_likeness(nodes: list[Node]) -> list[float]:
    inner = [node for node in nodes if node.children]
    return [node.likeness for node in inner] + [v for node in inner for v in all_likeness(node.children)]


def tokens_of(node: Node, tau: float) -> list[Node]:
    if not node.children or node.likeness >= tau:
        return [node]
    return [token for child in node.children for token in tokens_of(child, tau)]


def octree(roots: list[Node], tau: float) -> Reduced:
    tokens = sorted((token.patches for root in roots for token in tokens_of(root, tau)), key=lambda patches: patches[0])
    return Reduced([patches[0] for patches in tokens], tokens)
