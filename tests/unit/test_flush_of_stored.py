"""What a flush of one target counts: stored deliveries, by number and adoption."""

from __future__ import annotations

from typing import Any

from rambla_py.delivery_history import Stored
from rambla_py.outbox.rows import Row
from rambla_py.runtime.target.counters import Counters


class Ended:
    """A stored delivery that has ended."""

    def __init__(self, seq: int, adoption: int = 0) -> None:
        self.stored = Stored(Row("probe.orders", "a", None, 0.0, b"", seq=seq), adoption)


def ends(counters: Counters, *deliveries: Any) -> None:
    counters.ended(deliveries)


def test_a_flush_waits_for_what_is_adopted_until_all_is_read() -> None:
    """Not for what is adopted later: under a stream of rows it would never end."""
    counters, over = Counters(), []
    flush = counters.when_flushed(lambda: over.append(1), reading=True)
    first = counters.adopt(1)
    counters.read(flush)
    later = counters.adopt(1)
    assert (flush.left, flush.total) == (1, 1)
    ends(counters, Ended(8, later))
    assert not over
    ends(counters, Ended(7, first))
    assert over == [1]


def test_a_flush_is_not_over_before_all_is_read() -> None:
    """Nothing is left, but something may come."""
    counters, over = Counters(), []
    flush = counters.when_flushed(lambda: over.append(1), reading=True)
    ends(counters, Ended(1, counters.adopt(1)))
    assert not over
    counters.read(flush)
    assert over == [1]
    counters.read(flush)
    assert over == [1]


def test_a_later_row_that_is_removed_already_does_not_end_a_flush() -> None:
    """A row leaves its process before the delivery ends when it has become a dead letter."""
    counters, over = Counters(), []
    counters.spill(1)
    counters.store(1)
    counters.when_flushed(lambda: over.append(1))
    counters.spill(1)
    counters.store(2)
    dead = Ended(2)
    dead.stored.row.leave()
    ends(counters, dead)
    assert not over
    ends(counters, Ended(1))
    assert over == [1]
