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


def test_a_fatal_message_whose_letter_cannot_be_stored_has_no_outcome(tmp_path: Path) -> None:
    """It is shown in the status, and ends once the letter is stored."""
    backend = Backend()
    backend.answers = [PermanentError("never")]
    backend.gate.clear()
    with running(table_of(tmp_path, backend.handler(), {"busy_timeout_s": 0.05})) as app:
        receipt = app.publish("orders", 1)
        with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            backend.gate.set()
            wait_until(lambda: app.status()[NAME].dead_waiting == 1)
            assert not receipt.done()
        assert receipt.outcomes(10)[0].status == "fatal"
        assert app.status()[NAME].dead_waiting == 0
    assert account(tmp_path).dead == 1


def test_the_second_message_of_an_id_that_waits_on_the_disk(tmp_path: Path) -> None:
    """It shares the outcome of the first one, of which nothing is in memory."""
    backend = Backend()
    backend.gate.clear()
    with running(table_of(tmp_path, backend.handler(), max_pending=2)) as app:
        for at in range(20):
            app.publish("orders", at, id=f"id {at}")
        same_ids = app._lifecycle.outbox.same_ids  # type: ignore[union-attr]
        assert same_ids._waiting == {}
        receipt = app.publish("orders", 19, id="id 19")
        assert not receipt.done()
        backend.gate.set()
        receipt.result(timeout_s=20)
        assert same_ids._waiting == {}
        wait_until(lambda: not same_ids._ended)
    assert account(tmp_path).ok == 20


def test_the_second_message_of_an_id_of_an_earlier_run(tmp_path: Path) -> None:
    """It shares the outcome, which comes in this run."""
    backend = Backend()
    backend.gate.clear()
    table = table_of(tmp_path, backend.handler())
    app = Rambla(table).start()
    app.publish_many("orders", [0, 1])
    app.publish("orders", 2, id="one")
    opening = threading.Timer(0.3, backend.gate.set)
    opening.start()
    app.stop(0.0)
    opening.join()
    backend.gate.clear()
    with running(table) as again:
        receipt = again.publish("orders", 2, id="one")
        assert not receipt.done()
        backend.gate.set()
        receipt.result(timeout_s=20)
    assert backend.received.count(2) == 1


def test_the_second_message_of_an_id_that_another_process_delivers(tmp_path: Path) -> None:
    """Its outcome is not known here."""
    app = Rambla(table_of(tmp_path, Backend().handler(), {"deliver": False})).start()
    app.publish("orders", 1, id="one")
    with pytest.raises(KeptError, match="one"):
        app.publish("orders", 1, id="one").result(timeout_s=10)
    app.stop(5)


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
