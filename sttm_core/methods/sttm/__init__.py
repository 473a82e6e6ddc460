"""STTM (Hyun et al., ICCV 2025, arXiv 2507.07990): a quadtree in space, chains through time."""
