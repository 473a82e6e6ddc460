"""Pictures of token merging."""

from __future__ import annotations

from typing import Any

__all__ = ["inspect"]


def __getattr__(name: str) -> Any:
    """`viz.inspect` brings in torch and OpenCV: only when it is asked for."""
    if name == "inspect":
        from .inspector.notebook import inspect

        return inspect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
