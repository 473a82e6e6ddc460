"""The bounded store: what stays, what goes, that it is what the machine holds, and that threads make a thing once."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sttm_core.footprint import Footprint
from sttm_core.store import Store
from sttm_core.timing import STATUS

MiB = 2**20


def block(size: int, device: str = "cpu") -> torch.Tensor:
    """A tensor of so many bytes."""
    return torch.zeros(size, dtype=torch.uint8, device=device)


def store_of(size: int) -> Store:
    return Store(Footprint(size, size))


def run(store: Store, steps: str) -> None:
    """``a40`` asks for entry a, made of 40 bytes; ``a.x10`` for its part x of 10 bytes."""
    for step in steps.split():
        name, _, part = step.partition(".")
        size = int("".join(filter(str.isdigit, name)) or 0)
        entry = store.entry(name[0], lambda size=size: block(size))
        if part:
            store.part(entry, part[0], lambda size=int(part[1:]): block(size))


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        ("a40 b40", "a b"),
        ("a40 b60", "a b"),  # exactly full
        ("a40 b40 c40", "b c"),
        ("a40 b40 a c40", "a c"),  # asking for it keeps it
        ("a30 b30 c30 d70", "c d"),  # as many as needed go
        ("a40 c101", "a"),  # too large alone: not kept, and nothing goes for it
        ("a40 c100", "c"),
        ("a0 b0 c100", "a b c"),
        ("a40.x20 b40", "a.x b"),  # parts count with their entry
        ("a40.x20 b41", "b"),  # and go with it
        ("a40 b40 a.x30", "a.x"),
        ("a40.x30 a.y40", "a.y"),  # alone too large: its oldest part goes
        ("a40.x30 a.y20 a.x30 a.z30", "a.x.z"),  # the one used last stays
        ("a40.x70", "a"),  # the part itself does not fit
        ("b50 a40.x70", "b a"),  # and nothing else goes for it
    ],
)
def test_what_was_used_last_stays(steps: str, left: str) -> None:
    store = store_of(100)
    run(store, steps)
    kept = [".".join([key, *sorted(entry.parts)]) for key, entry in store._entries.items()]
    assert sorted(kept) == sorted(left.split())
    entries = store._entries.values()
    held = sum(thing.nbytes for entry in entries for thing in (entry.whole, *entry.parts.values()))
    assert store.held == Footprint(host=held) and held <= 100 and len(store) == len(entries)


def test_what_parts_share_with_the_whole_counts_once() -> None:
    store = store_of(100)
    entry = store.entry("video", lambda: block(60))
    store.part(entry, "prefix", lambda: (entry.whole, entry.whole[:5], block(40)))
    assert store.held == Footprint(host=100) and len(entry.parts) == 1


def test_what_is_cached_later_counts_when_it_is_there() -> None:
    store = store_of(100)
    store.entry("old", lambda: block(30))
    entry = store.entry("video", lambda: {"tokens": block(60)})
    entry.whole["tables"] = block(20)
    assert store.held.host == 110
    store.keep(entry)
    assert store.held.host == 80 and len(store) == 1


def test_who_has_an_entry_can_use_it_after_it_went() -> None:
    store = store_of(100)
    mine = store.entry("mine", lambda: block(60))
    run(store, "b60")
    assert len(store) == 1 and store.held.host == 60
    prefix, was_there = store.part(mine, "prefix", lambda: block(10))
    assert not was_there and store.part(mine, "prefix", list) == (prefix, True)
    assert store.entry("mine", list) is mine  # it was used last


def test_an_entry_made_anew_is_not_replaced_by_the_one_that_went() -> None:
    store = store_of(100)
    first = store.entry("a", lambda: block(60))
    run(store, "b60")
    second = store.entry("a", lambda: block(50))
    store.part(first, "prefix", lambda: block(10))
    assert store.entry("a", list) is second and second is not first and not second.parts


def test_what_goes_is_freed_with_all_its_parts() -> None:
    store = store_of(100)

    def watched() -> list[weakref.ref]:
        entry = store.entry("a", lambda: block(60))
        prefix, _ = store.part(entry, "prefix", lambda: (entry.whole, block(9)))
        return [weakref.ref(entry.whole), weakref.ref(prefix[1])]

    gone = watched()
    run(store, "b60")
    gc.collect()
    assert [found() for found in gone] == [None, None]


@pytest.mark.parametrize("bound", [Footprint(0, 1), Footprint(1, 0), Footprint(-1, -1)])
def test_room_for_nothing_is_refused(bound: Footprint) -> None:
    with pytest.raises(ValueError, match="1 byte or more"):
        Store(bound)


def fill(store: Store, size: int, device: str) -> None:
    """Twenty videos of ``size`` bytes, three prefixes of half that each, which hold the video too."""
    for number in range(20):
        entry = store.entry(number, lambda: block(size, device))
        for name in "xyz":
            store.part(entry, name, lambda whole=entry.whole: (whole, block(size // 2, device)))
        del entry


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux to say what is resident")
def test_the_bound_is_what_the_process_holds() -> None:
    """Resident memory, as Linux counts it: blocks this large go back to it at once."""
    bound, before = 512 * MiB, _resident()
    store = store_of(bound)
    fill(store, 64 * MiB, "cpu")
    grown = _resident() - before
    assert store.held.host == 3 * 160 * MiB
    assert abs(grown - store.held.host) < 32 * MiB and grown <= bound


@pytest.mark.gpu
def test_the_bound_is_what_the_gpu_holds() -> None:
    torch.cuda.synchronize()
    before, store = torch.cuda.memory_allocated(), Store(Footprint(1, 512 * MiB))
    fill(store, 64 * MiB, "cuda")
    assert store.held == Footprint(device=3 * 160 * MiB)
    assert torch.cuda.memory_allocated() - before == store.held.device


def _resident() -> int:
    gc.collect()
    return next(int(line.split()[1]) * 1024 for line in STATUS.read_text().splitlines() if line.startswith("VmRSS:"))


def test_threads_that_ask_together_get_one_entry_and_one_part() -> None:
    store, together, calls = store_of(100), threading.Barrier(8), []

    def make() -> torch.Tensor:
        calls.append(threading.get_ident())
        threading.Event().wait(0.05)  # long enough for the others to arrive
        return block(1)

    def ask(_: int) -> tuple:
        together.wait()
        entry = store.entry("video", make)
        return entry, *store.part(entry, "prefix", make)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert len(calls) == 2
    assert all(entry is found[0][0] and part is found[0][1] for entry, part, _ in found)
    assert [was_there for *_, was_there in found].count(False) == 1
    assert not store._turns


def test_another_key_does_not_wait() -> None:
    store, entered, leave = store_of(100), threading.Event(), threading.Event()

    def slow() -> torch.Tensor:
        entered.set()
        assert leave.wait(10)
        return block(1)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.entry, "slow", slow)
        assert entered.wait(10)
        assert store.entry("fast", lambda: block(2)).whole.nbytes == 2
        assert not waiting.done()
        leave.set()
        assert waiting.result(10).whole.nbytes == 1


def test_a_failure_leaves_nothing_behind_and_can_be_tried_again() -> None:
    store = store_of(100)

    def fail() -> torch.Tensor:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        store.entry("video", fail)
    assert not store._turns and len(store) == 0
    entry = store.entry("video", lambda: block(3))
    with pytest.raises(MemoryError, match="no room"):
        store.part(entry, "prefix", fail)
    assert not store._turns and not entry.parts
    assert store.part(entry, "prefix", lambda: block(3))[1] is False


def test_after_a_failure_those_who_wait_still_make_it_one_at_a_time() -> None:
    store, together = store_of(100), threading.Barrier(6)
    at_work, most_at_work, calls = [], [], []

    def make() -> torch.Tensor:
        at_work.append(1)
        most_at_work.append(len(at_work))
        calls.append(1)
        threading.Event().wait(0.02)
        at_work.pop()
        if len(calls) <= 2:
            raise OSError("try again")
        return block(1)

    def ask(_: int):
        together.wait()
        try:
            return store.entry("video", make)
        except OSError:
            return None

    with ThreadPoolExecutor(6) as pool:
        entries = list(pool.map(ask, range(6)))
    assert entries.count(None) == 2
    assert len(calls) == 3
    assert max(most_at_work) == 1
    assert not store._turns
