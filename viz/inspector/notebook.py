"""The inspector in a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sttm_core import Quadtree, similarity_tables

from .data import InspectorData
from .export import export_html


@dataclass(frozen=True)
class NotebookView:
    """A page that a notebook shows as a cell's result; `save` writes it to a file."""

    page: str
    height: int

    def _repr_html_(self) -> str:
        style = f"width:100%;height:{self.height}px;border:0"
        return f'<iframe srcdoc="{html.escape(self.page)}" style="{style}" title="Token merging inspector"></iframe>'

    def save(self, path: str | Path) -> Path:
        """Write the page as one HTML file."""
        path = Path(path)
        path.write_text(self.page, "utf-8")
        return path


def inspect(
    tokens: torch.Tensor,
    frames: np.ndarray | torch.Tensor,
    *,
    times: Sequence[float] | None = None,
    root_level: int = 1,
    weighting: str = "nodes",
    height: int = 900,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> NotebookView:
    """Show how ``tokens [T, H, W, C]`` of ``frames`` (uint8 ``[T, h, w, 3]``) merge: a cell's last line in a notebook.

    Args:
        times: seconds of the frames; their numbers if left out.
        root_level, weighting: as for `sttm_core.merge_tokens`.
        height: of the picture in the notebook, in pixels.
        settings: what to begin with, as `InspectorData.settings`.
        options: as for `InspectorData.of` (title, needles, curve, tau_spatial, tau_temporal, rules).

    Raises:
        ValueError: as `sttm_core.similarity_tables` and `InspectorData.of`.
    """
    tree = Quadtree(tokens.shape[1], tokens.shape[2], root_level) if tokens.ndim == 4 else None
    tables = similarity_tables(tokens, tree, weighting=weighting)
    times = range(len(frames)) if times is None else times
    return NotebookView(export_html(InspectorData.of(frames, times, tables, **options), settings), height)
