"""The audit of an outbox: what adds up, and what it says of what does not."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from dead_files import accept, dead, kill, row

from rambla_py.outbox.audit import OutboxAudit, audited
from rambla_py.outbox.journal import Account, Changes
from rambla_py.outbox.sqlite.journal import SqliteJournal
from rambla_py.outcome import STATUSES


def test_every_outcome_counts(tmp_path: Path) -> None:
    """Accepted is the sum of the outcomes and of what waits, for each target and over restarts."""
    path = tmp_path / "outbox.db"
    kill(path, [row("d1"), row("d2", "redis.orders")])
    journal = SqliteJournal(path)
    journal.open(delivers=True)
    rows = [row(f"m{at}") for at in range(9)]
    accept(journal, rows)
    ended = list(zip(rows, STATUSES, strict=False))
    journal.write([], Changes(ended=ended, dead=[dead(rows[8])]))
    found = audited(journal)
    assert found.balanced
    assert found.differences == []
    assert found.stored == 11
    assert list(found.targets) == ["amqp.orders", "redis.orders"]
    orders = found.targets["amqp.orders"]
    assert [getattr(orders, status) for status in STATUSES] == [1, 1, 3, 1, 1, 1]
    assert (orders.accepted, orders.pending, orders.dead) == (10, 2, 2)
    journal.close()


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (
            "DELETE FROM rambla_message WHERE seq = 1",
            "amqp.orders: 2 accepted, 0 ended, 1 pending: 1 is missing",
        ),
        (
            "UPDATE rambla_account SET count = 1 WHERE name = 'accepted'",
            "amqp.orders: 1 accepted, 0 ended, 2 pending: 1 is too many",
        ),
        (
            "UPDATE sqlite_sequence SET seq = 4 WHERE name = 'rambla_message'",
            "all targets: 4 stored, 2 accepted: 2 are missing",
        ),
        (
            "INSERT INTO rambla_account VALUES (1, 'ok', 3)",
            "amqp.orders: 2 accepted, 3 ended, 2 pending: 3 are too many",
        ),
    ],
)
def test_a_difference_is_named(tmp_path: Path, change: str, difference: str) -> None:
    """A row that vanished, a counter that is wrong, a number that no account has."""
    path = tmp_path / "outbox.db"
    journal = SqliteJournal(path)
    journal.open(delivers=False)
    accept(journal, [row("1"), row("2")])
    journal.close()
    with sqlite3.connect(path) as connection:
        connection.execute(change)
    connection.close()
    found = audited(journal)
    assert not found.balanced
    assert difference in found.differences
    journal.close()


def test_without_a_sequence() -> None:
    """Where the database does not count rows, the accounts themselves are the proof."""
    assert OutboxAudit({"a.b": Account(accepted=1, ok=1)}).balanced
    assert OutboxAudit({}).balanced
