"""STTM (Hyun et al., ICCV 2025, arXiv 2507.07990): a quadtree in space, chains through time.

`quadtree` is geometry, `similarity` one pass over the features, `plan` thresholds to decisions, `merge` the whole line
in one call, `budget` thresholds for a wanted retention, `method` the entry in the registry. `kernels*` and `tiles` are
the same on a GPU.
"""

from .method import Sttm

__all__ = ["Sttm"]
