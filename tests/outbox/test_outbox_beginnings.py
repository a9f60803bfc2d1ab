"""Attempts whose beginning must be stored first, while it cannot be."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from outboxes import NAME, account, running, table_of
from waiting import wait_until

from rambla_py import Handler
from rambla_py.outbox.codec import dump_value
from rambla_py.outbox.journal import Acceptance, Changes
from rambla_py.outbox.rows import Row
from rambla_py.outbox.sqlite.journal import SqliteJournal


def leave_rows(folder: Path, *, handed_out: int) -> None:
    """Store three messages of one key as a process that died when the first ones had been handed out."""
    journal = SqliteJournal(folder / "outbox.db")
    journal.open(delivers=True)
    rows = [Row(NAME, f"m{at}", "k", time.time(), dump_value(at)) for at in (1, 2, 3)]
    for row in rows:
        row.seal()
    journal.write([Acceptance(rows)], Changes(cursors={(journal.own, NAME): handed_out}))
    (number,) = journal._owners.mine
    journal._owners.unlock(number)  # as its end does
    journal._file.close()


@pytest.mark.parametrize(("on_unknown", "handed_out"), [("retry", 1), ("retry", 2), ("report", 3)])
def test_a_key_stays_in_order(tmp_path: Path, on_unknown: str, handed_out: int) -> None:
    """A message whose beginning cannot be stored is tried later, and those behind it wait for it."""
    connects = threading.Event()
    received: list[Any] = []

    class Runs(Handler):
        ordered = True

        def connect(self) -> object:
            connects.wait(20)
            return object()

        def handle_batch(self, batch: Any, state: Any) -> list[None]:
            received.extend(message.payload for message in batch)
            return [None] * len(batch)

    leave_rows(tmp_path, handed_out=handed_out)
    table = table_of(tmp_path, Runs, {"busy_timeout_s": 0.05}, batch_size=10, on_unknown=on_unknown)
    with running(table) as app:
        wait_until(lambda: len(app._targets()[0].mailbox) == 3)
        with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            connects.set()
            wait_until(lambda: any("outbox" in reason for reason in app._targets()[0].counters.reasons))
        wait_until(lambda: len(received) == 3)
    assert received == [1, 2, 3]
    assert account(tmp_path).ok == 3
