"""One bounded store for what is costly to make again: encoded videos and prefixes, shared by all visitors."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar


class Sized(Protocol):
    """Anything that says how many bytes it holds."""

    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=Sized)


@dataclass
class _Turn:
    """Who makes an item: one thread at a time, while ``threads`` count the one at work and those that wait."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    threads: int = 0


class Store:
    """Least recently used items go when the sum of their bytes passes ``max_bytes``; safe to share between threads.

    One item alone may be larger than ``max_bytes``: it stays until the next one comes.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, got {max_bytes}.")
        self.max_bytes = max_bytes
        self._items: OrderedDict[Hashable, Sized] = OrderedDict()
        self._lock = threading.Lock()
        self._turns: dict[Hashable, _Turn] = {}

    def get(self, key: Hashable) -> Sized | None:
        """The item, now the most recently used, or None."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: Hashable, item: Sized) -> None:
        """Keep ``item`` and let the least recently used go until all fit."""
        with self._lock:
            self._items[key] = item
            self._items.move_to_end(key)
            while self._bytes() > self.max_bytes and len(self._items) > 1:
                self._items.popitem(last=False)

    def get_or_make(self, key: Hashable, make: Callable[[], T]) -> T:
        """The item; made once, even if several threads ask for it at the same time.

        An exception of ``make`` goes to the thread that called it; the next one that waits tries again.
        """
        with self._turn(key):
            item = self.get(key)
            if item is None:
                item = make()
                self.put(key, item)
            return item

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        with self._lock:
            return self._bytes()

    def __len__(self) -> int:
        return len(self._items)

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

    def _bytes(self) -> int:
        return sum(item.nbytes for item in self._items.values())
