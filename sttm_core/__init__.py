"""Training-free spatio-temporal token merging for Video LLMs (STTM, arXiv 2507.07990): the part without a browser."""

from .method import MergedTokens
from .methods.sttm.budget import BudgetThresholds, retention_surface, thresholds_for_retention
from .methods.sttm.merge import merge_tokens
from .methods.sttm.plan import MergePlan
from .methods.sttm.quadtree import Quadtree
from .methods.sttm.similarity import SimilarityTables, similarity_tables

__all__ = [
    "BudgetThresholds",
    "MergePlan",
    "MergedTokens",
    "Quadtree",
    "SimilarityTables",
    "merge_tokens",
    "merging",
    "retention_surface",
    "similarity_tables",
    "thresholds_for_retention",
]


def __getattr__(name: str):
    """`merging` needs transformers, which takes seconds to import: on first use."""
    if name == "merging":
        from .generation import merging

        return merging
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
