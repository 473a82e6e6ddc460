"""Training-free spatio-temporal token merging for Video LLMs (STTM, arXiv 2507.07990): the part without a browser."""

from .merge import MergedTokens, merge_tokens
from .plan import MergePlan
from .quadtree import Quadtree
from .similarity import SimilarityTables, similarity_tables

__all__ = ["MergePlan", "MergedTokens", "Quadtree", "SimilarityTables", "merge_tokens", "similarity_tables"]
