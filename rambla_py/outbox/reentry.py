"""Writes of a signal handler to an outbox that the thread below is writing to."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rambla_py.outbox.errors import OutboxBusyError

__all__ = ["refuse_reentry"]

_writing: set[tuple[int, str]] = set()
"""The threads that write, each with the outbox."""

# The threads of the parent are not in a child, where others may get their identities.
os.register_at_fork(after_in_child=_writing.clear)


@contextmanager
def refuse_reentry(name: str, place: str) -> Iterator[None]:
    """Write to a place inside the block; a second write of the same thread would wait for the first.

    Raises ``OutboxBusyError``, with the ``name`` of the outbox, for the second.
    """
    entry = (threading.get_ident(), place)
    if entry in _writing:
        raise OutboxBusyError(name, "this thread was interrupted while it was writing")
    try:
        _writing.add(entry)
        yield
    finally:
        _writing.discard(entry)
