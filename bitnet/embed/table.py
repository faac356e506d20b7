"""What C programs hold by id."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from bitnet.embed.text import INT_MAX
from bitnet.errors import BitNetError, InvalidArgumentError

T = TypeVar("T")


class Table(Generic[T]):
    """Objects by id; safe to use from several threads.

    Ids count upwards from 0 and are never used twice.

    unknown: makes the error for an id that no object has, or no longer.
    """

    def __init__(self, unknown: Callable[[int], BitNetError]) -> None:
        self._unknown = unknown
        self._lock = threading.Lock()
        self._items: dict[int, T] = {}
        self._next_id = 0

    def add(self, item: T) -> int:
        """Give an object an id."""
        with self._lock:
            if self._next_id > INT_MAX:
                raise BitNetError("this process has used up its ids")
            self._items[self._next_id] = item
            self._next_id += 1
            return self._next_id - 1

    def get(self, id: int) -> T:
        with self._lock:
            if id not in self._items:
                raise self._unknown(id)
            return self._items[id]

    def remove(self, id: int) -> T:
        """Forget an object."""
        with self._lock:
            if id not in self._items:
                raise self._unknown(id)
            return self._items.pop(id)

    def __contains__(self, id: int) -> bool:
        with self._lock:
            return id in self._items

    def all(self) -> dict[int, T]:
        """What is there now."""
        with self._lock:
            return dict(self._items)


def unknown_id(kind: str) -> Callable[[int], BitNetError]:
    """For tables of things whose unknown ids are invalid arguments."""
    return lambda number: InvalidArgumentError(f"{kind} ID {number} not found")
