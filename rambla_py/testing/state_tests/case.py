"""What the author of a state store declares to the contract suite: a store, flags, ways to break it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

import msgspec

from rambla_py.state import StateRecord, StateStore
from rambla_py.testing.clock import FakeClock
from rambla_py.testing.flags import FlaggedTests
from rambla_py.testing.state_model import LATER_S

__all__ = ["VERBS", "WRITES", "StateCase", "unversioned"]

WRITES: list[Callable[[StateStore], Any]] = [
    lambda store: store.set("a", 1),
    lambda store: store.set("new", 1, if_absent=True),
    lambda store: store.set_many({"a": 1}),
    lambda store: store.put(StateRecord("a", 1, 1.0, 1.0)),
    lambda store: store.delete("a"),
    lambda store: store.clear(),
    lambda store: store.cleanup_expired(),
]
"""Every method that writes; the record "a" exists."""

VERBS: list[Callable[[StateStore], Any]] = [
    *WRITES,
    lambda store: store.get("a"),
    lambda store: store.get_many(["a"]),
    lambda store: store.get_all(),
]

_METHODS = {"can_break": "broken", "has_quota": "full"}


def unversioned(record: StateRecord | None) -> StateRecord | None:
    """Return a record without its version, to compare it with one that was not read from a store."""
    return None if record is None else msgspec.structs.replace(record, version="")


class StateCase(FlaggedTests):
    """A state store to be tested; see ``StateContract``."""

    shared: ClassVar[bool] = True
    durable: ClassVar[bool] = True
    time_resolution_s: ClassVar[float] = 0.0
    max_key_bytes: ClassVar[int] = 1024

    # None: up if the class writes the method.
    can_break: ClassVar[bool | None] = None
    has_quota: ClassVar[bool | None] = None

    @classmethod
    def _is_up(cls, flag: str) -> bool:
        given: bool | None = getattr(cls, flag)
        if given is not None:
            return given
        return getattr(cls, _METHODS[flag]) is not getattr(StateCase, _METHODS[flag])

    def make(self, clock: Callable[[], float]) -> StateStore:
        """Return a store of this test's place, not yet opened; ``clock`` is its time."""
        raise NotImplementedError("write make(clock)")

    def broken(self, clock: Callable[[], float]) -> AbstractContextManager[StateStore]:
        """Yield an open store that has the record "a" and can no longer be written to: its place is gone.

        For instance, kill its server, remove its folder, or hold its lock.
        """
        raise NotImplementedError("write broken(clock), or set can_break = False")

    def full(self, clock: Callable[[], float]) -> AbstractContextManager[StateStore]:
        """Yield an open store that has the record "a", whose value is 1, and no room for four megabytes."""
        raise NotImplementedError("write full(clock), or set has_quota = False")

    def new_clock(self) -> FakeClock:
        """Return a clock that is ahead of the machine's, at a time that the store can hold."""
        unit_s = self.time_resolution_s
        now = time.time() + LATER_S
        return FakeClock(math.ceil(now / unit_s) * unit_s if unit_s else now)

    @contextmanager
    def opened(self) -> Iterator[tuple[StateStore, FakeClock]]:
        """Yield an open store, and its clock."""
        clock = self.new_clock()
        with self.make(clock) as store:
            yield store, clock
