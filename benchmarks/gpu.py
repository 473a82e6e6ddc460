"""Everything that the README says of a GPU, in one run: `python -m benchmarks.gpu --out DIR`.

Each step is a process of its own with a time limit. One that fails or takes too long is reported and the others go on;
what it wrote until then stays. DIR gets the JSON of each benchmark and a log of each step.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

ROOT = Path(__file__).parents[1]
TESTS = (
    "core/methods",
    "core/test_families.py",
    "core/test_footprint.py",
    "core/test_placement.py",
    "core/test_store.py",
    "core/vision",
    "benchmarks/test_on_gpu.py",
)
WORKERS = str(min(12, os.cpu_count() or 1))  # most of these tests wait for the compiler
LARGE = ("--frames", "128", "--channels", "3584", "--dtype", "bfloat16")
TTFT = ("benchmarks.ttft", "--runs", "3")
QWEN = "qwen2-vl-7b,qwen2.5-vl-7b,qwen3-vl-8b"
TIMED_OUT = 124
LAST_LINES = 60  # of a log that are shown: tables come last


@dataclass(frozen=True)
class Step:
    """A module to run with arguments, and after how many minutes to stop it; ``writes`` if it takes ``--json-out``."""

    name: str
    module: tuple[str, ...]
    minutes: float
    writes: bool = True

    def command(self, out: Path) -> list[str]:
        target = ["--json-out", str(out / f"{self.name}.json")] if self.writes else []
        return [sys.executable, "-m", *self.module, *target]


STEPS = (
    Step("tests", ("pytest", "-q", "-n", WORKERS, *(f"tests/{path}" for path in TESTS)), 8, writes=False),
    Step("merge-op", ("benchmarks.merge_op", "--all"), 8),
    Step("merge-methods", ("benchmarks.merge_op", *LARGE, "--method", "all"), 4),
    Step("ttft-llava", (*TTFT, "--shape", "llava-onevision-7b", "--frames", "64,128"), 4),
    Step("vision", ("benchmarks.vision", "--shape", f"{QWEN},llava-onevision-7b", "--profile"), 6),
    Step("ttft-qwen", (*TTFT, "--shape", QWEN, "--frames", "64,128"), 8),
    Step("tune", ("benchmarks.merge_op", "--tune"), 10),
)


def run_steps(steps: Sequence[Step], out: Path) -> dict[str, int]:
    """Run one after the other, each with a log of its own; their exit codes, `TIMED_OUT` for too long."""
    out.mkdir(parents=True, exist_ok=True)
    codes = {}
    for step in steps:
        started, log = time.perf_counter(), out / f"{step.name}.log"
        print(f"== {step.name}: {' '.join(step.command(out)[1:])}", flush=True)
        codes[step.name] = _run(step, out, log)
        print("".join(log.read_text(errors="replace").splitlines(keepends=True)[-LAST_LINES:]))
        ended = {0: "done", TIMED_OUT: "stopped"}.get(codes[step.name], "failed")
        print(f"== {step.name}: {ended} after {time.perf_counter() - started:.0f} s", flush=True)
    return codes


def _run(step: Step, out: Path, log: Path) -> int:
    with log.open("wb") as file:
        try:
            return subprocess.run(
                step.command(out), cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=60 * step.minutes
            ).returncode
        except subprocess.TimeoutExpired:
            return TIMED_OUT


def main(
    out: Annotated[Path, typer.Option(help="Folder for JSON and logs.")],
    only: Annotated[str, typer.Option(help="Steps, separated by commas.")] = ",".join(step.name for step in STEPS),
) -> None:
    """Tests and benchmarks of a CUDA GPU; 1 if a step failed or was stopped."""
    names = {step.name: step for step in STEPS}
    if unknown := [name for name in only.split(",") if name not in names]:
        raise typer.BadParameter(f"there is no step {unknown[0]!r}; there are {', '.join(names)}.")
    if not torch.cuda.is_available():
        raise typer.BadParameter("there is no CUDA GPU here.")
    codes = run_steps([names[name] for name in only.split(",")], out.absolute())
    print(", ".join(f"{name}: {code}" for name, code in codes.items()))
    raise typer.Exit(int(any(codes.values())))


if __name__ == "__main__":
    typer.run(main)
