"""All GPU measurements in one run: a step that fails or hangs does not stop the others. The steps here need no GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import STEPS, TIMED_OUT, Step, run_steps
from tests.benchmarks.commands import command


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module ``work`` that says something, then writes, fails or hangs."""
    (tmp_path / "work.py").write_text(
        "import sys, time\n"
        "print('at', sys.argv[1], flush=True)\n"
        "if sys.argv[1] == 'write': open(sys.argv[3], 'w').write('[1]')\n"
        "if sys.argv[1] == 'fail': raise SystemExit(3)\n"
        "if sys.argv[1] == 'hang': time.sleep(60)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_a_step_that_fails_or_hangs_stops_nobody(work: Path, capsys: pytest.CaptureFixture) -> None:
    steps = [
        Step("broken", ("work", "fail"), 1, writes=False),
        Step("endless", ("work", "hang"), 0.05, writes=False),
        Step("good", ("work", "write"), 1),
    ]
    assert run_steps(steps, work / "out") == {"broken": 3, "endless": TIMED_OUT, "good": 0}
    assert json.loads((work / "out" / "good.json").read_text()) == [1]
    assert (work / "out" / "endless.log").read_text() == "at hang\n"
    shown = capsys.readouterr().out
    assert "broken: failed" in shown and "endless: stopped" in shown and "good: done" in shown and "at write" in shown


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_every_step_is_a_command_that_exists(step: Step, tmp_path: Path) -> None:
    """Its options are known: typer reads them before anything runs."""
    if step.module[0] == "pytest":
        assert all((gpu.ROOT / path).exists() for path in step.module if path.startswith("tests/"))
    else:
        assert command(step.module[0], *step.command(tmp_path)[3:], "--help").exit_code == 0


def test_without_a_gpu_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for arguments, sentence in ((["--only", "everything"], "no step 'everything'"), ([], "no CUDA GPU here")):
        result = command("benchmarks.gpu", "--out", str(tmp_path), *arguments)
        assert result.exit_code == 2 and sentence in " ".join(result.output.split())
