"""Which video a page shows. Runs belong to it: what arrives after another video has taken its place is dropped."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..studio import VideoRef

_counting = threading.Lock()


@dataclass
class Visit:
    """One page in one browser. A `gr.State` holds it, and all handlers of that page get the same object.

    Attributes:
        ref: the video shown.
        shown: number of the opening that brought it; 0 for the video that the page came with.
        begun: openings begun so far.
    """

    ref: VideoRef
    shown: int = 0
    begun: int = 0

    def begin(self) -> int:
        """Number of an opening that begins now."""
        with _counting:
            self.begun += 1
            return self.begun

    def show(self, opening: int, ref: VideoRef) -> bool:
        """Show the video of an opening; False, and nothing changes, if one that was begun later is shown already."""
        with _counting:
            if opening < self.shown:
                return False
            self.ref, self.shown = ref, opening
            return True


def opens(handler: Callable) -> Callable:
    """A handler ``(ref, ...) -> (VideoRef, updates)`` as an event's: takes the `Visit`, gives opening and updates.

    Nothing changes on the page where ``handler`` returns None, or where a video chosen later is there first.
    """

    @functools.wraps(handler)
    def call(visit: Visit, *args, **kwargs):
        opening = visit.begin()
        found = handler(visit.ref, *args, **kwargs)
        if found is None:
            return gr.skip()
        ref, updates = found
        return (opening, *updates) if visit.show(opening, ref) else gr.skip()

    return call


def of_video(handler: Callable, late: Any = None) -> Callable:
    """A handler ``(ref, ...)`` as an event's: takes the `Visit`; what it gives is dropped once another video is shown.

    Args:
        handler: a function, or a generator that then ends.
        late: what a function gives in place of its result when it comes too late; None to change nothing.
    """

    @functools.wraps(handler)
    def call(visit: Visit, *args, **kwargs):
        shown = visit.shown
        result = handler(visit.ref, *args, **kwargs)
        return result if visit.shown == shown else (gr.skip() if late is None else late)

    @functools.wraps(handler)
    def generate(visit: Visit, *args, **kwargs) -> Iterator:
        shown = visit.shown
        for result in handler(visit.ref, *args, **kwargs):
            if visit.shown != shown:
                yield gr.skip()  # Gradio sends the last result once more at the end
                return
            yield result

    return generate if inspect.isgeneratorfunction(handler) else call


def whatever_is_shown(handler: Callable) -> Callable:
    """A handler ``(ref, ...)`` as an event's: takes the `Visit`; what it gives, a file, is wanted however late."""

    @functools.wraps(handler)
    def call(visit: Visit, *args, **kwargs):
        return handler(visit.ref, *args, **kwargs)

    return call
