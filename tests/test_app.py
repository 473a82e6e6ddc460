"""The application's own command line: bad options are one sentence and nothing starts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

import app
from sttm_core.command_line import run
from viz.samples import load_samples


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model", "no/such-folder/here"], "There is no"),
        (["--auth", "nobody"], "--auth wants NAME:PASSWORD."),
        (["--auth", ":secret"], "--auth wants NAME:PASSWORD."),
        (["--max-frames", "0"], "Invalid value for '--max-frames'"),
        (["--question-seconds", "0"], "Invalid value for '--question-seconds'"),
        (["--max-upload-mb", "0"], "Invalid value for '--max-upload-mb'"),
        (["--max-memory", "70GiB"], "--max-memory wants device=size pairs"),
        (["--dtype", "int8"], "Invalid value for '--dtype'"),
        (["--frame-tokens", "0"], "frame_tokens"),
        (["--device", "warp"], "device"),
        (["--port", "many"], "Invalid value for '--port'"),
    ],
)
def test_bad_options_are_one_sentence(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(app.cli, options) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and sentence in err
    assert "Running on" not in out and "Traceback" not in err


def test_help_needs_no_model(capsys: pytest.CaptureFixture) -> None:
    assert run(app.cli, ["--help"]) == 0
    shown = capsys.readouterr().out
    for option in ("--model", "--host", "--port", "--share", "--auth", "--max-frames", "--max-upload-mb", "--device"):
        assert option in shown


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """The application as a process of its own, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port)], cwd=Path(app.__file__).parent,
        env=os.environ | {"GRADIO_TEMP_DIR": str(tmp_path)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell's background job ignores
    )  # fmt: skip
    address, patience = f"http://127.0.0.1:{port}/", time.monotonic() + 120
    while time.monotonic() < patience:
        with suppress(httpx.TransportError):
            httpx.get(address)
            break
        time.sleep(0.5)
    yield process, address
    process.kill()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_what_visitors_leave_goes_with_the_process(running, tmp_path: Path, ending: int) -> None:
    process, address = running
    film = load_samples()["two-shapes"].path.read_bytes()
    name = httpx.post(f"{address}gradio_api/upload", files={"files": ("film.mp4", film)}, timeout=60).json()[0]
    (folder,) = tmp_path.iterdir()
    assert Path(name).is_relative_to(folder) and Path(name).read_bytes() == film
    process.send_signal(ending)
    process.wait(60)
    assert list(tmp_path.iterdir()) == []
