"""Benchmarks as commands, run in this process."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import typer
from typer.testing import CliRunner


def app_of(main: Callable) -> typer.Typer:
    app = typer.Typer()
    app.command()(main)
    return app


def command(module: str, *arguments: str):
    """``python -m module arguments``."""
    return CliRunner().invoke(app_of(import_module(module).main), arguments)
