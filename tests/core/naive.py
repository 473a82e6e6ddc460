"""The method once more, in nested loops and float64: the oracle that the core is compared with.

Written from the description of the method alone and sharing no code with `sttm_core`: nodes are objects with children,
overlaps are found by comparing boxes, chains by walking along links. Slow, and meant to be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

RULES = ("paper", "as_released", "bottom_up")
WEIGHTINGS = ("nodes", "patches")


@dataclass(frozen=True)
class Node:
    """One node of a quadtree: its number (level 0 first, scan order within a level), box and children."""

    number: int
    level: int
    box: tuple[int, int, int, int]  # y0, x0, y1, x1
    children: tuple[Node, ...]

    @property
    def area(self) -> int:
        y0, x0, y1, x1 = self.box
        return (y1 - y0) * (x1 - x0)


def groups_along(length: int) -> list[list[int]]:
    """Which neighbours share a parent along an axis: pairs, and on an odd axis the first stays alone."""
    start = length % 2
    return [[0]] * start + [[i, i + 1] for i in range(start, length, 2)]


def root_depth(height: int, width: int, root_level: int) -> int:
    """Level of the root grid: halve until a side is 2, then go back by `root_level`, at most to the patches."""
    depth = 0
    while min(height, width) > 2:
        height, width, depth = (height + 1) // 2, (width + 1) // 2, depth + 1
    return max(0, depth - root_level)


def coarser(grid: list[list[Node]], level: int, first_number: int) -> list[list[Node]]:
    rows, number = [], first_number
    for ys in groups_along(len(grid)):
        row = []
        for xs in groups_along(len(grid[0])):
            children = tuple(grid[y][x] for y in ys for x in xs)
            box = (*children[0].box[:2], *children[-1].box[2:])
            row.append(Node(number, level, box, children))
            number += 1
        rows.append(row)
    return rows


@cache
def quadtree(height: int, width: int, root_level: int) -> list[list[list[Node]]]:
    """The grids of nodes from the patches (level 0) to the root grid: `grids[level][row][column]`."""
    grids = [[[Node(y * width + x, 0, (y, x, y + 1, x + 1), ()) for x in range(width)] for y in range(height)]]
    for level in range(1, root_depth(height, width, root_level) + 1):
        grids.append(coarser(grids[-1], level, grids[-1][-1][-1].number + 1))
    return grids


def all_nodes(grids: list[list[list[Node]]]) -> list[Node]:
    return [node for grid in grids for row in grid for node in row]


def contains(outer: tuple[int, ...], inner: tuple[int, ...]) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


@cache
def nested_pairs(height: int, width: int, root_level: int) -> list[tuple[int, int]]:
    """Numbers of all (earlier, later) nodes of which one box contains the other."""
    nodes = all_nodes(quadtree(height, width, root_level))
    return [(a.number, b.number) for a in nodes for b in nodes if contains(a.box, b.box) or contains(b.box, a.box)]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def node_features(frame: np.ndarray, grids: list[list[list[Node]]], weighting: str) -> list[np.ndarray]:
    """The feature of every node of one frame `[H, W, C]`, by node number."""
    features: list[np.ndarray] = []
    for node in all_nodes(grids):
        y0, x0, y1, x1 = node.box
        if weighting == "nodes" and node.children:
            features.append(np.mean([features[child.number] for child in node.children], axis=0))
        else:
            features.append(frame[y0:y1, x0:x1].mean(axis=(0, 1)))
    return features


def lowest_child_cosine(node: Node, features: list[np.ndarray], grids: list[list[list[Node]]], rules: str) -> float:
    """Smallest cosine of a node with its children; as released, also with node (0, 0) if children are absent.

    From the bottom up, a node is no more alike than the least of the nodes below it.
    """
    compared = list(node.children)
    if rules == "as_released" and len(compared) < 4:
        compared.append(grids[node.level - 1][0][0])
    lowest = min(cosine(features[node.number], features[other.number]) for other in compared)
    if rules == "bottom_up" and node.level > 1:
        return min(lowest, *(lowest_child_cosine(child, features, grids, rules) for child in node.children))
    return lowest


def child_minima(video: np.ndarray, root_level: int, rules: str, weighting: str) -> np.ndarray:
    """`lowest_child_cosine` of every node that has children, by node number: `[T, internal nodes]`."""
    grids = quadtree(*video.shape[1:3], root_level)
    inner = [node for node in all_nodes(grids) if node.children]
    frames = [node_features(frame, grids, weighting) for frame in video.astype(np.float64)]
    return np.array([[lowest_child_cosine(node, features, grids, rules) for node in inner] for features in frames])


def kept_in_frame(features: list[np.ndarray], grids: list[list[list[Node]]], tau: float, rules: str) -> list[Node]:
    """The nodes that the search from the root grid down keeps, in scan order."""
    kept: list[Node] = []
    waiting = [node for row in grids[-1] for node in row]
    while waiting:
        node = waiting.pop()
        if node.level == 0 or lowest_child_cosine(node, features, grids, rules) >= tau:
            kept.append(node)
        else:
            waiting.extend(node.children)
    return sorted(kept, key=lambda node: node.box[:2])


def true_labels(links: list[tuple[int, int]], count: int) -> list[int]:
    """The smallest index in everyone's connected component, by walking along the links."""
    neighbours: list[list[int]] = [[] for _ in range(count)]
    for a, b in links:
        neighbours[a].append(b)
        neighbours[b].append(a)
    labels = [-1] * count
    for start in range(count):
        waiting = [start] if labels[start] < 0 else []
        while waiting:
            here = waiting.pop()
            labels[here] = start
            waiting.extend(other for other in neighbours[here] if labels[other] < 0)
    return labels


def labels_left_open(links: list[tuple[int, int]], count: int) -> list[int]:
    """The labels after the released loop, which stops when shortening paths changes nothing, links or no links."""
    labels = list(range(count))
    while True:
        smaller = [min(labels[a], labels[b]) for a, b in links]
        for end in (0, 1):
            for link, value in zip(links, smaller, strict=True):
                labels[link[end]] = min(labels[link[end]], value)
        labels = [labels[label] for label in labels]
        if [labels[label] for label in labels] == labels:
            return labels


@dataclass(frozen=True)
class NaiveMerge:
    """What the core must return; the kept nodes are those of the spatial stage, in scan order."""

    tokens: np.ndarray  # [N, C] float64
    boxes: np.ndarray  # [N, 5]
    patch_counts: np.ndarray  # [N]
    member_of: np.ndarray  # [T, H, W]
    token_of_kept: list[int]
    kept: list[tuple[int, Node]]  # (frame, node)
    links: dict[tuple[int, int], float]  # (earlier, later) indices into `kept` -> cosine


def link_frames(kept: list[tuple[int, Node]], vectors: list[np.ndarray], tau: float) -> dict[tuple[int, int], float]:
    """All nested pairs of kept nodes of consecutive frames with a cosine of at least `tau`."""
    links: dict[tuple[int, int], float] = {}
    for i, (frame, earlier) in enumerate(kept if tau > 0 else []):
        for j in range(i + 1, len(kept)):
            later_frame, later = kept[j]
            if later_frame > frame + 1:
                break
            if later_frame == frame + 1 and (contains(earlier.box, later.box) or contains(later.box, earlier.box)):
                similarity = cosine(vectors[i], vectors[j])
                if similarity >= tau:
                    links[i, j] = similarity
    return links


def collect(video: np.ndarray, kept: list, vectors: list[np.ndarray], labels: list[int], weighting: str) -> dict:
    """Merge the kept nodes that share a label."""
    chains: dict[int, list[int]] = {}
    for i, label in enumerate(labels):
        chains.setdefault(label, []).append(i)
    member_of = np.full(video.shape[:3], -1)
    tokens, boxes, counts = [], [], []
    for token, leader in enumerate(sorted(chains)):
        areas = [kept[i][1].area for i in chains[leader]]
        weights = areas if weighting == "patches" else [1] * len(areas)
        tokens.append(sum(w * vectors[i] for w, i in zip(weights, chains[leader], strict=True)) / sum(weights))
        boxes.append((kept[leader][0], *kept[leader][1].box))
        counts.append(sum(areas))
        for i in chains[leader]:
            y0, x0, y1, x1 = kept[i][1].box
            member_of[kept[i][0], y0:y1, x0:x1] = token
    tokens_of_leaders = {leader: token for token, leader in enumerate(sorted(chains))}
    return {
        "tokens": np.array(tokens),
        "boxes": np.array(boxes),
        "patch_counts": np.array(counts),
        "member_of": member_of,
        "token_of_kept": [tokens_of_leaders[label] for label in labels],
    }


def merge(
    video: np.ndarray,
    tau_spatial: float,
    tau_temporal: float,
    root_level: int = 1,
    rules: str = "paper",
    weighting: str = "nodes",
) -> NaiveMerge:
    """The whole method on `video` `[T, H, W, C]`."""
    video = video.astype(np.float64)
    grids = quadtree(video.shape[1], video.shape[2], root_level)
    kept, vectors = [], []
    for t, frame in enumerate(video):
        features = node_features(frame, grids, weighting)
        chosen = kept_in_frame(features, grids, tau_spatial, rules)
        kept += [(t, node) for node in chosen]
        vectors += [features[node.number] for node in chosen]
    links = link_frames(kept, vectors, tau_temporal)
    label = labels_left_open if rules == "as_released" else true_labels
    merged = collect(video, kept, vectors, label(list(links), len(kept)), weighting)
    return NaiveMerge(**merged, kept=kept, links=links)


def pair_cosines(video: np.ndarray, root_level: int, weighting: str) -> np.ndarray:
    """Cosines of every node of a frame with every node of the next: `[T - 1, nodes, nodes]`."""
    video = video.astype(np.float64)
    grids = quadtree(video.shape[1], video.shape[2], root_level)
    features = np.array([node_features(frame, grids, weighting) for frame in video])  # [T, nodes, C]
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    return np.einsum("tac,tbc->tab", features[:-1], features[1:])
