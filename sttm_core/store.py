"""One bounded store for what is costly to make again: encoded videos with their prefixes, shared by all visitors.

entry = store.entry(key, encode)                          # made once, by whoever asks first
prefix, was_there = store.part(entry, settings, prefill)  # goes when its video goes

Who has an entry in hand can use it to the end, whatever the store lets go meanwhile.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .footprint import Allocations, Footprint, allocations, footprint

T = TypeVar("T")
P = TypeVar("P")


@dataclass(eq=False)
class Entry(Generic[T]):
    """One thing, such as an encoded video, and the parts made from it, such as its prefixes, by their keys."""

    key: Hashable
    whole: T
    parts: OrderedDict[Hashable, object] = field(default_factory=OrderedDict)


@dataclass
class _Turn:
    """Who makes an item: one thread at a time, while ``threads`` count the one at work and those that wait."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    threads: int = 0


class Store:
    """Keeps entries within two bounds, of main memory and of GPU memory; safe to share between threads.

    What is held is measured by the allocations behind it (see `footprint`), each counted once, so what an entry caches
    in itself counts too. The entry that was used last comes first: if it alone is too large, its parts go, least
    recently used first; then other entries go in that order, each with all its parts. An entry that does not fit even
    without parts is not kept.

    Args:
        bound: bytes of each kind that may be held.

    Raises:
        ValueError: for a bound below 1 byte.
    """

    def __init__(self, bound: Footprint) -> None:
        if min(bound.host, bound.device) < 1:
            raise ValueError(f"A store must be allowed 1 byte or more of each kind of memory, got {bound}.")
        self.bound = bound
        self._entries: OrderedDict[Hashable, Entry] = OrderedDict()
        self._lock = threading.RLock()
        self._turns: dict[Hashable, _Turn] = {}

    def entry(self, key: Hashable, make: Callable[[], T]) -> Entry[T]:
        """The entry of ``key``, now the one used last; made once, even if several threads ask at the same time.

        An exception of ``make`` goes to the thread that called it; the next one that waits tries again.
        """
        with self._turn(key):
            with self._lock:
                found = self._entries.get(key)
            found = Entry(key, make()) if found is None else found
            self.keep(found)
            return found

    def part(self, entry: Entry, key: Hashable, make: Callable[[], P]) -> tuple[P, bool]:
        """A part of an entry, made once, and whether it was there already; the entry is now the one used last."""
        with self._turn((id(entry), key)):
            with self._lock:
                part = entry.parts.get(key)
            was_there = part is not None
            part = part if was_there else make()
            with self._lock:
                entry.parts[key] = part
                entry.parts.move_to_end(key)
                self.keep(entry)
            return part, was_there

    def keep(self, entry: Entry) -> None:
        """Make the entry the one used last and let others go until all fit; call it when the entry may have grown.

        One that the store let go comes back, unless it was made anew meanwhile.
        """
        with self._lock:
            if self._entries.setdefault(entry.key, entry) is entry:
                self._entries.move_to_end(entry.key)
                self._make_room(entry)

    @property
    def held(self) -> Footprint:
        """What is held now, measured."""
        with self._lock:
            return footprint(allocations(*self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    def _make_room(self, newest: Entry) -> None:
        while newest.parts and not self._fit([allocations(newest)]):
            newest.parts.popitem(last=False)
        if not self._fit([allocations(newest)]):
            del self._entries[newest.key]
        held = [allocations(entry) for entry in self._entries.values()]
        while not self._fit(held):
            self._entries.popitem(last=False)
            held.pop(0)

    def _fit(self, held: list[Allocations]) -> bool:
        return footprint({place: size for one in held for place, size in one.items()}).fits(self.bound)

    @contextmanager
    def _turn(self, key: Hashable) -> Iterator[None]:
        """Inside the `with`, no other thread makes the item of ``key``; nothing is left behind once all are out."""
        with self._lock:
            turn = self._turns.setdefault(key, _Turn())
            turn.threads += 1
        try:
            with turn.lock:
                yield
        finally:
            with self._lock:
                turn.threads -= 1
                if not turn.threads:
                    del self._turns[key]
