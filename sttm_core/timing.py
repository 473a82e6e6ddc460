"""Measuring stages: synchronised clocks, medians, peak memory. The same code times the baseline and the merged run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import torch

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Timings:
    """Seconds by stage of one answer, from opening the video to its first token.

    Attributes:
        decode: reading and sampling the video's frames.
        vision: preprocessing, vision encoder and projector.
        merge: similarity tables, plan and averaging (0 for the baseline).
        prefill: all decoder layers over the prompt's prefix, which ends with the video.
        first_token: the question through the decoder, up to the first token.
    """

    decode: float = 0.0
    vision: float = 0.0
    merge: float = 0.0
    prefill: float = 0.0
    first_token: float = 0.0

    @property
    def ttft(self) -> float:
        """Time to first token from a file on disk: the sum of all stages."""
        return sum(self.as_dict().values())

    @property
    def language_model(self) -> float:
        """The part that papers report as TTFT: merge, prefill and first token, without decoding and vision encoder."""
        return self.merge + self.prefill + self.first_token

    def as_dict(self) -> dict[str, float]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def median(cls, runs: Iterable[Timings]) -> Timings:
        """Stage by stage median of several runs."""
        runs = list(runs)
        return cls(**{f.name: statistics.median(getattr(run, f.name) for run in runs) for f in fields(cls)})


def synchronizer(device: torch.device) -> Callable[[], None]:
    """What to call before reading a clock: waits for all GPUs in use, does nothing on a CPU."""
    if device.type != "cuda":
        return lambda: None

    def wait() -> None:
        for index in range(torch.cuda.device_count()):
            torch.cuda.synchronize(index)

    return wait


class Stopwatch:
    """Seconds between laps, synchronised with the device."""

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self.synchronize = synchronize
        self.lap()

    def lap(self) -> float:
        """Seconds since the last lap."""
        self.synchronize()
        now = time.perf_counter()
        passed, self.last = now - getattr(self, "last", now), now
        return passed


@dataclass
class PeakMemory:
    """Highest memory in use inside `peak_memory`: of the GPUs together, or of this process on a CPU.

    ``bytes`` is None where the system can't tell.
    """

    bytes: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Measure the peak inside the `with`: allocations on a GPU, resident memory of this process on Linux."""
    peak = PeakMemory()
    gpus = range(torch.cuda.device_count()) if device.type == "cuda" else ()
    for gpu in gpus:
        torch.cuda.reset_peak_memory_stats(gpu)
    resettable = not gpus and _reset_resident_peak()
    try:
        yield peak
    finally:
        if gpus:
            peak.bytes = sum(torch.cuda.max_memory_allocated(gpu) for gpu in gpus)
        elif resettable:
            peak.bytes = _resident_peak()


def _reset_resident_peak() -> bool:
    """Ask Linux to forget this process's peak of resident memory; False where that is not possible."""
    try:
        CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def _resident_peak() -> int | None:
    for line in STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
