"""Receipts of durable messages that share an id, or whose outcome is not known when the app stops."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from outboxes import NAME, Backend, account, running, table_of
from waiting import wait_until

from rambla_py import KeptError, PermanentError, Rambla, Receipt


def test_a_stop_keeps_the_messages_of_one_id(tmp_path: Path) -> None:
    """The receipt of the second one does not wait for an outcome that comes in another run."""
    backend = Backend()
    backend.gate.clear()
    app = Rambla(table_of(tmp_path, backend.handler())).start()
    receipts = [app.publish("orders", 1, id="one") for _ in range(2)]
    threading.Timer(0.3, backend.gate.set).start()
    app.stop(0.0)
    for receipt in receipts:
        with pytest.raises(KeptError, match="one"):
            receipt.result(timeout_s=10)


def test_a_callback_that_raises_holds_up_no_outcome(tmp_path: Path) -> None:
    """It belongs to the second message of an id; the first one and those after it end as ever."""
    backend = Backend()
    backend.gate.clear()

    def fail(receipt: Receipt) -> None:
        raise ValueError("a mistake of the application")

    with running(table_of(tmp_path, backend.handler())) as app:
        receipts = [app.publish("orders", 1, id="one") for _ in range(2)]
        receipts[1].add_done_callback(fail)
        backend.gate.set()
        receipts.append(app.publish("orders", 2))
        for receipt in receipts:
            receipt.result(timeout_s=10)
    assert account(tmp_path).ok == 2


def test_a_dead_letter_that_cannot_be_stored_at_the_stop_stays_a_message(tmp_path: Path) -> None:
    """No outcome is announced that the outbox does not have: its receipt says that it is kept."""
    backend = Backend()
    backend.gate.clear()
    backend.answers = [PermanentError("no")]
    app = Rambla(table_of(tmp_path, backend.handler(), {"busy_timeout_s": 0.1})).start()
    receipt = app.publish("orders", 1)
    with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        backend.gate.set()
        wait_until(lambda: app.audit()[NAME].fatal == 1)
        app.stop(0.5)
        with pytest.raises(KeptError, match=receipt_id(backend)):
            receipt.result(timeout_s=10)
    assert account(tmp_path).pending == 1


def receipt_id(backend: Backend) -> str:
    """Return the id of the only message."""
    (message_id,) = backend.ids
    return message_id
