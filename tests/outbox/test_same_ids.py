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

    def _settle(self, delivery: Any) -> bool:
        return False


class Duplicate:
    """A later message of an id, or the first one."""

    id = "a"
    result = "stored"
    error = None

    def __init__(self) -> None:
        self.receipt = Kept()
        self.ends: list[Any] = []

    def end(self, status: Any, error: Any, now: float) -> None:
        self.ends.append(status)

    def succeeded(self, result: Any) -> None:
        self.ends.append(result)

    def release(self) -> None:
        pass


def test_a_first_message_that_is_recorded_again_keeps_those_that_wait_for_it() -> None:
    """An interrupted commit is settled later: its first message may be recorded for a second time."""
    row = Row("probe.orders", "a", None, 0.0, b"")
    ids, duplicate = SameIds(remembers=True), Duplicate()
    ids.add(row)
    later: Any = duplicate
    ids.settle_duplicate(later, row, None)
    ids.add(row)
    ids.keep_all()
    assert duplicate.receipt.ids == ["a"]


def test_the_last_ids_are_remembered_and_those_that_others_wait_for() -> None:
    """A million messages that wait in the outbox cost no memory; a repeat of an old one is kept."""
    ids, shared, late, new = SameIds(remembers=True, most=2), Duplicate(), Duplicate(), Duplicate()
    rows = [Row("probe.orders", str(number), None, 0.0, b"") for number in range(100)]
    ids.add(rows[0])
    later: Any = shared
    ids.settle_duplicate(later, rows[0], None)
    for row in rows[1:]:
        ids.add(row)
    assert len(ids._waiting) <= 3
    for later, row in ((late, rows[50]), (new, rows[99])):
        ids.settle_duplicate(later, row, None)
    assert (late.receipt.ids, new.receipt.ids) == (["50"], [])
    first: Any = Duplicate()
    for row in (rows[0], rows[99]):
        ids.share_outcome(first, row, "ok")
    assert shared.ends == new.ends == ["ok", "stored"]


def test_a_first_message_that_has_ended_and_is_in_the_journal_still() -> None:
    """Its removal rides in a later commit: until then a second message has its outcome at once."""
    row = Row("probe.orders", "a", None, 0.0, b"", given_id=True, seq=7)
    ids = SameIds(remembers=False)
    first: Any = Duplicate()
    ids.share_outcome(first, row, "ok")
    second: Any = Duplicate()
    ids.settle_duplicate(second, row, None)
    assert second.ends == ["ok", "stored"]
    ids.removed([row])
    assert ids._ended == {}
