"""EVS patch by patch in float64. Written from the method's description alone."""

from __future__ import annotations

import numpy as np

from tests.core.methods.inputs import Reduced, cosine, kept_only


def evs(video: np.ndarray, wanted: int) -> Reduced:
    """The global top ``max(H*W, wanted)`` by dissimilarity, the first frame before all others."""
    frames, area = len(video), video.shape[1] * video.shape[2]
    flat = video.reshape(frames, area, -1)
    scored = []
    for frame in range(frames):
        for patch in range(area):
            unlike = 1 - cosine(flat[frame, patch], flat[frame - 1, patch]) if frame else np.inf
            scored.append((-round(unlike, 12), frame * area + patch))
    return kept_only(sorted(place for _, place in sorted(scored)[: max(area, wanted)]))
