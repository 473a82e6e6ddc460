"""The inspector in a notebook."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sttm_core import MergePlan, Quadtree, similarity_tables
from sttm_core.method import Plan
from sttm_core.video import step_frames

from ..labels import plan_settings, plan_summary
from ..overlay import GhostOverlay, Mixed, QuadtreeOverlay, render_strip
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
    plan: Plan | None = None,
    times: Sequence[float] | None = None,
    root_level: int = 1,
    weighting: str = "nodes",
    height: int = 900,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> NotebookView:
    """Show how ``tokens [T, H, W, C]`` of ``frames`` (uint8 ``[T, h, w, 3]``) merge: a cell's last line in a notebook.

    Args:
        plan: what to show: STTM's is where the sliders begin; what another method left of these tokens is drawn on the
            frames, boxes outlined, merged areas dimmed, dropped patches hatched.
        times: seconds of the frames; their numbers if left out.
        root_level, weighting: as for `sttm_core.merge_tokens`.
        height: of the picture in the notebook, in pixels.
        settings: what to begin with, as `InspectorData.settings`.
        options: as for `InspectorData.of` (title, needles, curve, tau_spatial, tau_temporal, rules).

    Raises:
        ValueError: as `sttm_core.similarity_tables` and `InspectorData.of`.
    """
    if plan is not None:
        plan.check_shape(tokens)
    if isinstance(plan, MergePlan):
        root_level, weighting = plan.tree.root_level, plan.weighting
        settings = {"tauSpatial": plan.tau_spatial, "tauTemporal": plan.tau_temporal, "rules": plan.rules} | (
            settings or {}
        )
    elif plan is not None:
        return NotebookView(drawn_page(np.asarray(frames), plan, times), height)
    tree = Quadtree(tokens.shape[1], tokens.shape[2], root_level) if tokens.ndim == 4 else None
    tables = similarity_tables(tokens, tree, weighting=weighting)
    times = range(len(frames)) if times is None else times
    return NotebookView(export_html(InspectorData.of(frames, times, tables, **options), settings), height)


def drawn_page(frames: np.ndarray, plan: Plan, times: Sequence[float] | None) -> str:
    """A page with every frame of the plan drawn on, for methods that the browser does not plan by itself."""
    shown = step_frames(len(frames), plan.num_frames)
    steps = None if times is None else np.asarray(times)[shown]
    sheet = render_strip(frames[shown], plan, Mixed([GhostOverlay(), QuadtreeOverlay()]), 4, times=steps)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "PNG")
    picture = base64.b64encode(file.getvalue()).decode()
    words = html.escape(f"{plan.method.title}: {plan_summary(plan)}")
    knobs = html.escape(plan_settings(plan))
    return (
        f'<!doctype html><meta charset="utf-8"><title>{words}</title>'
        '<body style="margin:0;font:14px system-ui,sans-serif">'
        f'<p style="margin:8px">{words}<br>{knobs}</p>'
        f'<img alt="{words}" style="max-width:100%" src="data:image/png;base64,{picture}">'
    )
