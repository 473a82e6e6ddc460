"""The bounded store: what stays, what goes, and that threads make an item once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from sttm_core.store import Store


@dataclass(frozen=True)
class Item:
    nbytes: int


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        ("a40 b40", "ab"),
        ("a40 b60", "ab"),  # exactly full
        ("a40 b40 c40", "bc"),
        ("a40 b40 get-a c40", "ac"),  # asking for it keeps it
        ("a40 b40 get-x c40", "bc"),  # asking for what is not there changes nothing
        ("a40 b40 a40 c40", "ac"),  # so does putting it again
        ("a40 b40 a90", "a"),  # grown: the new size counts
        ("a90 a10 b90", "ab"),  # shrunk
        ("a30 b30 c30 d70", "cd"),  # as many as needed go
        ("a40 b40 c500", "c"),  # too large alone: it stays ...
        ("c500 a40", "a"),  # ... until the next one comes
        ("c500 c600", "c"),
        ("a0 b0 c100", "abc"),
    ],
)
def test_least_recently_used_go_first(steps: str, left: str) -> None:
    store, sizes = Store(100), {}
    for step in steps.split():
        if step.startswith("get-"):
            store.get(step[4:])
        else:
            sizes[step[0]] = int(step[1:])
            store.put(step[0], Item(sizes[step[0]]))
    assert {key for key in "abcdx" if store.get(key) is not None} == set(left)
    assert len(store) == len(left)
    assert store.nbytes == sum(sizes[key] for key in left)


@pytest.mark.parametrize("max_bytes", [0, -1])
def test_room_for_nothing_is_refused(max_bytes: int) -> None:
    with pytest.raises(ValueError, match="max_bytes must be at least 1"):
        Store(max_bytes)


def test_threads_that_ask_together_get_one_item() -> None:
    store, together, calls = Store(100), threading.Barrier(8), []

    def make() -> Item:
        calls.append(threading.get_ident())
        threading.Event().wait(0.05)  # long enough for the others to arrive
        return Item(1)

    def ask(_: int) -> Item:
        together.wait()
        return store.get_or_make("video", make)

    with ThreadPoolExecutor(8) as pool:
        items = list(pool.map(ask, range(8)))
    assert len(calls) == 1
    assert all(item is items[0] for item in items)
    assert not store._turns


def test_another_key_does_not_wait() -> None:
    store, entered, leave = Store(100), threading.Event(), threading.Event()

    def slow() -> Item:
        entered.set()
        assert leave.wait(10)
        return Item(1)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.get_or_make, "slow", slow)
        assert entered.wait(10)
        assert store.get_or_make("fast", lambda: Item(2)) == Item(2)
        assert not waiting.done()
        leave.set()
        assert waiting.result(10) == Item(1)


def test_a_failure_leaves_nothing_behind_and_can_be_tried_again() -> None:
    store = Store(100)

    def fail() -> Item:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        store.get_or_make("video", fail)
    assert not store._turns
    assert len(store) == 0
    assert store.get_or_make("video", lambda: Item(3)) == Item(3)


def test_after_a_failure_those_who_wait_still_make_it_one_at_a_time() -> None:
    store, together = Store(100), threading.Barrier(6)
    at_work, most_at_work, calls = [], [], []

    def make() -> Item:
        at_work.append(1)
        most_at_work.append(len(at_work))
        calls.append(1)
        threading.Event().wait(0.02)
        at_work.pop()
        if len(calls) <= 2:
            raise OSError("try again")
        return Item(1)

    def ask(_: int) -> Item | None:
        together.wait()
        try:
            return store.get_or_make("video", make)
        except OSError:
            return None

    with ThreadPoolExecutor(6) as pool:
        items = list(pool.map(ask, range(6)))
    assert items.count(None) == 2
    assert len(calls) == 3
    assert max(most_at_work) == 1
    assert not store._turns
