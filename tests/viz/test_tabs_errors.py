"""What a person or a program is told when something fails: one sentence, and never the insides."""

from __future__ import annotations

import inspect

import gradio as gr
import pytest

from sttm_core.engine import ModelError, OutOfMemoryError
from sttm_core.video import VideoError
from viz.tabs.errors import UNEXPECTED, plain_errors
from viz.tabs.explore import Explorer

CASES = [
    (ValueError("the budget must lie above 0%."), "The budget must lie above 0%."),
    (VideoError("clip.mp4 is empty (0 bytes): upload it again."), "clip.mp4 is empty (0 bytes): upload it again."),
    (ModelError("There is no device 'warp'."), "There is no device 'warp'."),
    (OutOfMemoryError("the GPU's memory did not suffice."), "The GPU's memory did not suffice."),
    (RuntimeError("/srv/app.py: mat1 and mat2 shapes cannot be multiplied"), UNEXPECTED),
    (KeyError("secret"), UNEXPECTED),
    (OSError("/srv/cache is full"), UNEXPECTED),
    (gr.Error("Said already."), "Said already."),
]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(("error", "sentence"), CASES, ids=[type(error).__name__ for error, _ in CASES])
def test_a_failure_becomes_one_sentence(error, sentence, streams, caplog):
    def handler(value):
        raise error

    def stream(value):
        yield value
        raise error

    with pytest.raises(gr.Error) as caught:
        if streams:
            pieces = plain_errors(stream)(3)
            assert next(pieces) == 3
            next(pieces)
        else:
            plain_errors(handler)(3)
    assert caught.value.message == sentence
    logged = [record.exc_info[1] for record in caplog.records if record.name == "sttm_studio"]
    assert logged == ([error] if sentence == UNEXPECTED else [])  # only what nobody foresaw, with its traceback


def test_without_a_failure_nothing_changes():
    def stream():
        yield from range(3)

    assert list(plain_errors(stream)()) == [0, 1, 2]
    assert plain_errors(lambda a, b=2: a - b)(5, b=1) == 4
    handler = plain_errors(Explorer(None).open_linked)
    assert list(inspect.signature(handler).parameters) == ["shown", "request"]  # Gradio looks for what it shall pass
