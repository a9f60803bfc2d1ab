"""Message ids: random, drawn in stock, never shared with a forked child."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Protocol

import msgspec

__all__ = ["SharedId", "draw_ids", "new_id", "shared_or_new"]

_STOCK = 1_000
_BYTES = 16

# Reentrant, because a signal handler may publish while its own thread is in here.
_lock = threading.RLock()
_stock: list[str] = []


def new_id() -> str:
    """Return 32 hexadecimal digits from the operating system's random source; from any thread.

    >>> len(new_id()), new_id() == new_id()
    (32, False)
    """
    try:
        return _stock.pop()  # atomic: only a new stock takes the lock
    except IndexError:
        with _lock:
            return _draw()


def _draw() -> str:
    if not _stock:
        _stock.extend(os.urandom(_STOCK * _BYTES).hex(" ", _BYTES).split(" "))
    return _stock.pop()


class SharedId(msgspec.Struct, gc=False, eq=False):
    """The id of a message that goes to several targets, drawn when the first of them asks for it."""

    value: str | None = None


class _HasId(Protocol):
    given_id: str | SharedId | None


def shared_or_new(delivery: _HasId) -> str:
    """Return the id of a delivery that was given none, and store it: every thread sees the same one."""
    with _lock:
        given = delivery.given_id
        if given is None:  # first, and without a call: most messages have one target
            given = delivery.given_id = _stock.pop() if _stock else _draw()
        elif isinstance(given, SharedId):
            if given.value is None:
                given.value = _draw()
            given = delivery.given_id = given.value
    return given


def draw_ids(deliveries: Iterable[_HasId]) -> None:
    """Draw the ids of a batch whose handler will look at them; the lock costs more than an id."""
    with _lock:
        for delivery in deliveries:
            given = delivery.given_id
            if given is None:
                delivery.given_id = _stock.pop() if _stock else _draw()
            elif type(given) is SharedId:
                shared_or_new(delivery)


def _start_over() -> None:
    """Give a forked child a stock of its own: with its parent's it would draw the same ids."""
    global _lock
    _lock = threading.RLock()
    _stock.clear()


os.register_at_fork(after_in_child=_start_over)
