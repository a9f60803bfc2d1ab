"""Messages of one id: the later ones wait for the first."""

from __future__ import annotations

from typing import Any

from rambla_py.outbox.rows import Row
from rambla_py.outbox.same_ids import SameIds


class Kept:
    """A receipt that records what stays in the outbox."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def _keep(self, message_id: str) -> None:
        self.ids.append(message_id)


class Duplicate:
    """A later message of an id."""

    id = "a"

    def __init__(self) -> None:
        self.receipt = Kept()


def test_a_first_message_that_is_recorded_again_keeps_those_that_wait_for_it() -> None:
    """An interrupted commit is settled later: its first message may be recorded for a second time."""
    row = Row("probe.orders", "a", None, 0.0, b"")
    ids, duplicate = SameIds(), Duplicate()
    ids.add(row)
    later: Any = duplicate
    ids.settle_duplicate(later, row, None)
    ids.add(row)
    ids.keep_all()
    assert duplicate.receipt.ids == ["a"]
