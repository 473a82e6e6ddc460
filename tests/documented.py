"""The commands in the documentation: found in the Markdown files, and parsed by the parsers that would get them."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import typer
from typer.main import get_command

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
LANGUAGES = {"sh", "python", "text"}
PROGRAMS = ("python", "make", "torchrun")
ELSEWHERE = {"apt-get", "pip"}  # programs of other people, of which only the shell's syntax is checked
COMMAND = next(kind for kind in type(get_command(typer.Typer(callback=print))).__mro__ if kind.__name__ == "Command")


@dataclass(frozen=True)
class Block:
    """A fenced block: its file, language and text."""

    file: str
    language: str
    text: str


@dataclass(frozen=True)
class Documented:
    """A command of the documentation, as words.

    Attributes:
        whole: it stands in a block, so that it must run as it is; a mention within a sentence may leave out arguments.
    """

    file: str
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{self.file}: {shlex.join(self.words)}"


def documents() -> list[Path]:
    """Every Markdown file of the repository."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.split() or ["README.md"]
    return [ROOT / name for name in names]


def blocks(text: str, file: str) -> list[Block]:
    """The fenced blocks of a file."""
    return [Block(file, language.strip(), body) for language, body in FENCE.findall(text)]


def lines(block: Block) -> list[str]:
    """The commands of a shell block, one each; where some begin with ``$``, what has none is their output."""
    joined = block.text.replace("\\\n", " ").splitlines()
    asked = [line[2:] for line in joined if line.startswith("$ ")]
    return [line for line in asked or joined if line.strip()]


def commands(text: str, file: str) -> list[Documented]:
    """Every command of a file, those of its blocks first."""
    found: list[Documented] = []
    for block in blocks(text, file):
        for line in lines(block) if block.language == "sh" else []:
            words = shlex.split(line, comments=True)
            found += [Documented(file, _spelt_out(words, found), whole=True)] if words else []
    for mention in INLINE.findall(FENCE.sub("", text)):
        words = shlex.split(mention) if mention.startswith(PROGRAMS) else []
        found += [Documented(file, _spelt_out(words, found), whole=False)] if len(words) > 1 else []
    return found


def _spelt_out(words: list[str], earlier: list[Documented]) -> tuple[str, ...]:
    """``ask ... --attn eager`` repeats what the last command that begins with ``ask`` says."""
    if "..." not in words:
        return tuple(words)
    before, after = words[: words.index("...")], words[words.index("...") + 1 :]
    for command in reversed(earlier):
        if list(command.words[: len(before)]) == before:
            return (*command.words, *after)
    return tuple(words)


def check(command: Documented) -> None:
    """Have a command parsed by the program that it calls, as far as that goes without doing anything.

    Raises:
        ValueError: what the program would say.
    """
    words = list(command.words)
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    program, *rest = words
    if program == "make":
        _check_make(rest)
    elif program == "torchrun":
        _check_torchrun(rest, command.whole)
    elif program == "python":
        check_python(rest, command.whole)
    elif program not in ELSEWHERE:
        raise ValueError(f"no test knows how to check {program!r}.")


def _check_make(words: list[str]) -> None:
    """Targets exist, and the application takes ``ARGS``."""
    tried = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True)
    if tried.returncode:
        raise ValueError(tried.stderr)
    given = [shlex.split(word.removeprefix("ARGS=")) for word in words if word.startswith("ARGS=")]
    if "run" in words and given:
        check_python(["app.py", *given[0]])


def _check_torchrun(words: list[str], whole: bool = True) -> None:
    from torch.distributed.run import get_args_parser

    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            given = get_args_parser().parse_args(words)
        except SystemExit:
            raise ValueError(said.getvalue()) from None
    check_python([*(["-m"] if given.module else []), given.training_script, *given.training_script_args], whole)


def check_python(words: list[str], whole: bool = True) -> None:
    """``python`` with these words: one of our modules or files, or a line of Python."""
    if words[0] == "-c":
        compile(words[1], "<documented>", "exec")
    elif words[0] != "-m":
        _parse(words[0], words[1:], whole)
    elif words[1] == "benchmarks" and len(words) > 2 and not words[2].startswith("-"):
        name = "ttft" if words[2] == "NAME" else words[2]
        check_python(["-m", f"benchmarks.{name}", *words[3:]], whole)
    else:
        _parse(words[1], words[2:], whole)


def _parse(target: str, words: list[str], whole: bool) -> None:
    """Start a module or file as a program whose commands are parsed and not run."""
    source = _source(target)
    if "typer" not in source.read_text():
        if words:
            raise ValueError(f"{target} takes no options, got {words}.")
        return
    said, parsed = io.StringIO(), []
    start = runpy.run_path if target.endswith(".py") else runpy.run_module
    with (
        patch.object(COMMAND, "invoke", lambda self, context: parsed.append(context)),
        patch.object(sys, "argv", [str(source), *words]),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        warnings.simplefilter("ignore", RuntimeWarning)  # of a module that tests have imported
        try:
            start(str(source) if target.endswith(".py") else target, run_name="__main__")
            code = 0
        except SystemExit as left:
            code = left.code or 0
    incomplete = not whole and (not words or "Missing " in said.getvalue())
    if code and not incomplete:
        raise ValueError(f"{target} {shlex.join(words)}: {said.getvalue().strip()}")
    for context in parsed:
        _check_values(context.params)


def _source(target: str) -> Path:
    """The file that ``python target`` or ``python -m target`` runs."""
    if target.endswith(".py"):
        return ROOT / target
    spec = find_spec(target)
    if spec is not None and spec.submodule_search_locations:
        spec = find_spec(f"{target}.__main__")
    if spec is None:
        raise ValueError(f"there is no module {target!r} to run.")
    return Path(spec.origin)


def _check_values(given: dict) -> None:
    """What a command checks itself before it does anything: presets and memory."""
    from sttm_core import command_line

    if given.get("preset"):
        command_line.published(given["preset"], given["model"])
    command_line.memory_limits(given.get("max_memory"))
