"""python -m benchmarks: runs what this machine can; `--list` names the benchmarks, `NAME --help` its options."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

FOLDER = Path(__file__).parent
USAGE_ERROR = 2


def benchmarks() -> dict[str, str]:
    """Name of every script and package here that has a `main`, and its first line of documentation."""
    found = {}
    for path in sorted([*FOLDER.glob("*.py"), *FOLDER.glob("*/__main__.py")]):
        tree = ast.parse(path.read_text())
        if path != Path(__file__) and any(getattr(part, "name", "") == "main" for part in tree.body):
            name = path.stem if path.parent == FOLDER else path.parent.name
            found[name] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def run(name: str, arguments: list[str]) -> int:
    """Run one in a process of its own, so that it starts cold and its failure stops nobody else; its exit code."""
    print(f"== {name}", flush=True)
    return subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], cwd=FOLDER.parent).returncode


def run_all() -> int:
    """Run every benchmark without options; those that need some are named. 1 if one failed."""
    codes = {name: run(name, []) for name in benchmarks()}
    for name, code in codes.items():
        if code == USAGE_ERROR:
            print(f"{name} needs options: python -m benchmarks {name} --help")
        elif code:
            print(f"{name} failed")
    return int(any(code not in (0, USAGE_ERROR) for code in codes.values()))


def main(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="One benchmark, its own options after it.")] = None,
    names_only: Annotated[bool, typer.Option("--list", help="Name the benchmarks.")] = False,
) -> None:
    """Run all benchmarks that need no options, or one."""
    found = benchmarks()
    if names_only:
        print("\n".join(f"{known:14}{about}" for known, about in found.items()))
    elif name is None:
        raise typer.Exit(run_all())
    elif name in found:
        raise typer.Exit(run(name, context.args))
    else:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(found)}.")


cli = typer.Typer(add_completion=False)
options = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
cli.command(context_settings=options)(main)

if __name__ == "__main__":
    cli()
