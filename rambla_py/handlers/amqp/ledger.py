"""This module knows which messages of a channel the broker has not yet answered for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

__all__ = ["ConfirmLedger"]

T = TypeVar("T")


class ConfirmLedger(Generic[T]):
    """Numbers what is published as the broker does, from 1 on, and finds it again by its delivery tag.

    >>> ledger = ConfirmLedger()
    >>> ledger.add(["a", "b", "c"])
    >>> ledger.take(2, multiple=True), ledger.take(3, multiple=False), ledger.take(3, multiple=False)
    (['a', 'b'], ['c'], [])
    """

    __slots__ = ("_first", "_next", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[int, T] = {}
        self._first = self._next = 1  # nothing below the first is waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[T]:
        return iter(self._waiting.values())

    def __repr__(self) -> str:
        return f"ConfirmLedger({len(self._waiting)} waiting, next tag {self._next})"

    def add(self, items: Iterable[T]) -> None:
        """Take note of what was published, in the order of the wire."""
        tag = self._next
        for item in items:
            self._waiting[tag] = item
            tag += 1
        self._next = tag

    def take(self, tag: int, *, multiple: bool) -> list[T]:
        """Return, once, what the broker answered for; ``multiple``: all up to the tag, or all for tag 0."""
        waiting, first = self._waiting, self._first
        if multiple:
            end = min(tag + 1, self._next) if tag else self._next
            taken = [waiting.pop(at) for at in range(first, end) if at in waiting]
            self._first = max(first, end)
            return taken
        if tag not in waiting:
            return []
        item = waiting.pop(tag)
        while first < self._next and first not in waiting:
            first += 1
        self._first = first
        return [item]

    def find(self, wanted: Callable[[T], bool]) -> T | None:
        """Take and return the oldest that is wanted, or None."""
        for tag, item in self._waiting.items():
            if wanted(item):
                del self._waiting[tag]
                return item
        return None

    def take_all(self) -> list[T]:
        """Return all that waits, the oldest first; nothing waits afterwards."""
        return self.take(0, multiple=True)
