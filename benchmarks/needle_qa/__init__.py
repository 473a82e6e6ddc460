"""Needles in short clips as code and a seed: retrieval, ordering, counting (after VNBench), OCR, attributes, motion."""
