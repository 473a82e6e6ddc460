"""Clocks, medians and peaks."""

from __future__ import annotations

import time

import pytest
import torch

from sttm_core import timing
from sttm_core.timing import Stopwatch, Timings, peak_memory, synchronizer

RUNS = [Timings(1, 2, 3, 4, 5), Timings(3, 1, 9, 4, 7), Timings(2, 8, 6, 1, 6)]


def test_time_to_first_token_is_the_sum_of_its_stages():
    assert RUNS[0].ttft == 15 and RUNS[0].language_model == 12
    assert list(RUNS[0].as_dict()) == ["decode", "vision", "merge", "prefill", "first_token"]


@pytest.mark.parametrize(
    "runs, expected", [(RUNS, Timings(2, 2, 6, 4, 6)), (RUNS[:1], RUNS[0]), (RUNS[:2], Timings(2, 1.5, 6, 4, 6))]
)
def test_medians_go_stage_by_stage(runs, expected):
    assert Timings.median(iter(runs)) == expected


def test_laps_add_up_and_wait_for_the_device():
    waited = []
    watch = Stopwatch(lambda: (waited.append(1), time.sleep(0.01)))
    start = watch.last
    laps = [watch.lap() for _ in range(3)]
    assert sum(laps) == pytest.approx(watch.last - start) and min(laps) >= 0.01
    assert len(waited) == 4


@pytest.mark.parametrize(("device", "expected"), [("cpu", []), ("cuda:1", [0, 1, 2])])
def test_all_gpus_are_waited_for_and_none_where_there_is_none(monkeypatch, device, expected):
    waited = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    assert synchronizer(torch.device(device))() is None
    assert waited == expected


def test_the_peak_of_gpus_is_that_of_all_together(monkeypatch):
    forgotten = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", forgotten.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda index: 100 + index)
    with peak_memory(torch.device("cuda")) as peak:
        assert forgotten == [0, 1]
    assert peak.bytes == 201


def test_peaks_see_memory_that_was_given_back():
    with peak_memory(torch.device("cpu")) as small:
        pass
    with peak_memory(torch.device("cpu")) as large:
        block = torch.ones(64 * 2**20 // 4)
        del block
    if small.bytes is None:
        pytest.skip("this system does not tell peaks of resident memory")
    assert large.bytes - small.bytes > 40 * 2**20


def test_peaks_are_unknown_where_the_system_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(timing, "CLEAR_REFS", tmp_path / "no" / "such" / "file")
    with peak_memory(torch.device("cpu")) as peak:
        pass
    assert peak.bytes is None


def test_peaks_are_read_after_an_exception_too():
    with pytest.raises(KeyError), peak_memory(torch.device("cpu")) as peak:
        raise KeyError
    assert peak.bytes is None or peak.bytes > 0
