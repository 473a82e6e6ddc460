"""The interactive view of token merging: Python hands over tables and pictures once, the browser re-plans by itself.

The Gradio component is in `viz.inspector.component`, which alone imports Gradio.
"""

from .data import InspectorData
from .export import export_html
from .ranges import threshold_ranges

__all__ = ["InspectorData", "export_html", "threshold_ranges"]
