"""One model call at a time, and one sentence when memory runs out."""

from __future__ import annotations

import threading

import torch


class OutOfMemoryError(RuntimeError):
    """The accelerator's memory did not suffice; the message says for what."""


class ModelCall:
    """One model call at a time, without gradients; says in one sentence when memory runs out."""

    def __init__(self, lock: threading.RLock, doing: str) -> None:
        self.lock, self.doing, self.inference = lock, doing, torch.inference_mode()

    def __enter__(self) -> None:
        self.lock.acquire()
        self.inference.__enter__()

    def __exit__(self, kind, error, trace) -> None:
        self.inference.__exit__(kind, error, trace)
        self.lock.release()
        if isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
            raise OutOfMemoryError(
                f"The GPU's memory did not suffice for {self.doing}; "
                "use fewer frames, or merge more with lower thresholds."
            ) from error
