"""A plan small enough to know by heart: 2 frames of 4x4 patches, three 2x2 boxes and four single patches in each.

Frame 1 repeats frame 0's partition. Linked through time: the box at the top left, and the single patch (3, 3). So
frame 1 keeps all but these two, and the tokens are 0..6 from frame 0 and 7..11 from frame 1.
"""

from __future__ import annotations

import numpy as np
import torch

from sttm_core import Quadtree, SimilarityTables

CHAINED = ((0, 0, 2, 2), (3, 3, 4, 4))  # y0, x0, y1, x1 of the boxes linked from frame 0 to frame 1
BOXES = ((0, 0, 2, 2), (0, 2, 2, 4), (2, 0, 4, 2), (2, 2, 3, 3), (2, 3, 3, 4), (3, 2, 4, 3), (3, 3, 4, 4))


def hand_tables() -> SimilarityTables:
    tree = Quadtree(4, 4, root_level=0)
    boxes = [tuple(box) for box in tree.boxes.tolist()]
    minima = torch.ones(2, tree.num_internal)
    minima[:, boxes.index((2, 2, 4, 4), tree.num_patches) - tree.num_patches] = 0.5  # only this node splits
    cosines = torch.full((1, len(tree.pairs)), 0.1)
    for row, (earlier, later) in enumerate(tree.pairs.tolist()):
        if boxes[earlier] == boxes[later] and boxes[earlier] in CHAINED:
            cosines[0, row] = 0.9
    return SimilarityTables(tree, minima, minima, cosines)


def hand_plan(tau_spatial: float = 0.8, tau_temporal: float = 0.8):
    return hand_tables().plan(tau_spatial, tau_temporal)


def noise_frames(height: int, width: int, count: int = 2, seed: int = 0) -> np.ndarray:
    """``[count, height, width, 3]`` uint8; no two neighbours alike, so that every change shows."""
    return np.random.default_rng(seed).integers(40, 250, (count, height, width, 3), dtype=np.uint8)
