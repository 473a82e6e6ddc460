"""The page: one file a tab. `build_app` puts them together; launching is `app.py`'s."""

from .page import build_app, launch_options

__all__ = ["build_app", "launch_options"]
