"""The application's own command line: bad options are one sentence and nothing starts."""

from __future__ import annotations

import pytest

import app
from sttm_core.command_line import run


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
