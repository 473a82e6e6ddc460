"""One model call at a time, and one sentence when memory or a question's time runs out."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextvars import ContextVar

import torch
from torch import nn

from .limits import Allowance

ENGINE_RUNS: ContextVar[bool] = ContextVar("engine_runs", default=False)  # this thread is inside a `ModelCall`


class OutOfMemoryError(RuntimeError):
    """The accelerator's memory did not suffice; the message says for what."""


class ModelCall:
    """One model call at a time, without gradients; says in one sentence when memory or time runs out.

    The hooks of `merging` leave it alone.

    Args:
        doing: what the call does, for that sentence.
        allowance: how long it may take; looked at before each of ``layers``. (A GPU runs behind: there the host sees
            it when it next waits.)
    """

    def __init__(
        self, lock: threading.RLock, doing: str, allowance: Allowance | None = None, layers: Iterable[nn.Module] = ()
    ) -> None:
        self.lock, self.doing, self.inference = lock, doing, torch.inference_mode()
        self.allowance = allowance or Allowance()
        self.layers = layers if self.allowance.seconds is not None else ()
        self.handles, self.was_running = [], None

    def __enter__(self) -> None:
        self.allowance.check(self.doing)
        self.lock.acquire()
        self.allowance.start()
        self.inference.__enter__()
        self.was_running = ENGINE_RUNS.set(True)
        self.handles = [layer.register_forward_pre_hook(self._check) for layer in self.layers]

    def __exit__(self, kind, error, trace) -> None:
        for handle in self.handles:
            handle.remove()
        ENGINE_RUNS.reset(self.was_running)
        self.inference.__exit__(kind, error, trace)
        self.allowance.stop()
        self.lock.release()
        if isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
            raise OutOfMemoryError(
                f"The GPU's memory did not suffice for {self.doing}; "
                "use fewer frames, or merge more with lower thresholds."
            ) from error

    def _check(self, *_) -> None:
        self.allowance.check(self.doing)
