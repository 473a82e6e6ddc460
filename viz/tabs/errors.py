"""Known failures become one sentence in the interface and on the API; unknown ones never show their insides."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable

import gradio as gr

log = logging.getLogger("sttm_studio")
UNEXPECTED = "Something unexpected went wrong; the server's log says what. Your video and settings are still here."


def plain_errors(handler: Callable) -> Callable:
    """Turn ValueError (videos, models, settings) and RuntimeError with our words (memory, time) into `gr.Error`."""

    @functools.wraps(handler)
    def call(*args, **kwargs):
        try:
            return handler(*args, **kwargs)
        except Exception as error:
            raise plain(error) from error

    @functools.wraps(handler)
    def generate(*args, **kwargs):
        try:
            yield from handler(*args, **kwargs)
        except Exception as error:
            raise plain(error) from error

    return generate if inspect.isgeneratorfunction(handler) else call


def plain(error: Exception) -> gr.Error:
    """The `gr.Error` to raise for ``error``."""
    from sttm_core.engine import OutOfMemoryError, TimeUpError

    if isinstance(error, gr.Error):
        return error
    if isinstance(error, (ValueError, OutOfMemoryError, TimeUpError)):
        return gr.Error(_sentence(str(error)), title="Not possible", print_exception=False)
    log.exception("unexpected error", exc_info=error)
    return gr.Error(UNEXPECTED, title="Unexpected", print_exception=False)


def _sentence(text: str) -> str:
    """With a capital, unless it begins with a name such as ``clip.mp4``."""
    first = text.split(" ", 1)[0]
    return text[:1].upper() + text[1:] if first.isalpha() else text
