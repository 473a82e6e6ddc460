"""Clips to processes: each has the model, takes the next clip, and sends its rows back; one process writes the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.needle_qa.held_out import HeldOutClip
from benchmarks.needle_table.rows import RowFile, Setting, ask_clip
from sttm_core.engine import VideoLLM

_llm: VideoLLM | None = None  # of a worker


@dataclass(frozen=True)
class Loading:
    """What a worker loads: the model, where, in which precision."""

    model: str
    device: str | None
    dtype: str

    def load(self) -> VideoLLM:
        return VideoLLM.load(self.model, device=self.device, dtype=self.dtype)


@dataclass(frozen=True)
class Crew:
    """How the work is done.

    Attributes:
        workers: processes; 1 works in this one. On a CPU each of several has one thread.
        deadline: of `time.monotonic`, after which no clip is begun; None for no end.
        log: called with a line of progress.
    """

    loading: Loading
    workers: int
    folder: Path
    deadline: float | None = None
    log: Callable[[str], None] = lambda line: None

    @property
    def late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def fill(self, file: RowFile, items: Sequence[HeldOutClip], settings: Sequence[Setting]) -> bool:
        """Ask what the file lacks; False if the time was over before all of it was asked."""
        jobs = [(item, todo) for item in items if (todo := file.missing(item, settings))]
        started, pieces, done = time.perf_counter(), sum(len(todo) for _, todo in jobs), 0
        for rows in self._alone(jobs) if self.workers == 1 else self._together(jobs):
            file.add(rows)
            done += len(rows)
            each = (time.perf_counter() - started) / done
            self.log(f"{done} of {pieces} rows, {each:.2f} s a row; about {each * (pieces - done):.0f} s left")
        return done == pieces

    def _alone(self, jobs: Sequence[tuple[HeldOutClip, list[Setting]]]) -> Iterator[list[dict]]:
        llm = self.loading.load() if jobs else None
        for item, settings in jobs:
            if self.late:
                return
            yield list(ask_clip(llm, item, self.folder, settings))

    def _together(self, jobs: Sequence[tuple[HeldOutClip, list[Setting]]]) -> Iterator[list[dict]]:
        if not jobs:
            return
        count = min(self.workers, len(jobs))
        pool = ProcessPoolExecutor(count, get_context("spawn"), _start, (self.loading,))
        try:
            waiting = [pool.submit(_ask, item, self.folder, settings, self.deadline) for item, settings in jobs]
            for done in as_completed(waiting):
                if rows := done.result():
                    yield rows
        finally:
            pool.shutdown(cancel_futures=True)


def _start(loading: Loading) -> None:
    global _llm
    torch.set_num_threads(1)
    _llm = loading.load()


def _ask(item: HeldOutClip, folder: Path, settings: list[Setting], deadline: float | None) -> list[dict]:
    """Rows of one clip; none after the deadline (the clock is the machine's)."""
    if deadline is not None and time.monotonic() > deadline:
        return []
    return list(ask_clip(_llm, item, folder, settings))
