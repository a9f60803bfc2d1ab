"""Journals that were copied, restored from a backup, or are held by another process."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from outboxes import NAME, Backend, account, running, table_of
from waiting import wait_until

from rambla_py import OutboxBusyError


def test_a_backup_is_used_as_it_is(tmp_path: Path) -> None:
    """What was delivered since is delivered again with the same ids, and the accounts add up."""
    backend, path = Backend(), tmp_path / "outbox.db"
    backend.gate.clear()
    with running(table_of(tmp_path, backend.handler())) as app:
        app.publish_many("orders", range(5))
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
            source.backup(copy)
        backend.gate.set()
        app.publish_many("orders", range(5, 8))
        assert app.flush(20)
    for file in tmp_path.glob("outbox.db-*"):
        if file.name.endswith(("-wal", "-shm")):
            file.unlink()
    os.replace(tmp_path / "copy.db", path)
    later = Backend()
    with running(table_of(tmp_path, later.handler())) as app:
        wait_until(lambda: len(later.received) == 5)
        app.publish("orders", 8).result(10)
        assert app.outbox.audit().balanced
    assert later.received == [0, 1, 2, 3, 4, 8]
    assert later.ids[:5] == backend.ids[:5]
    assert (account(tmp_path).accepted, account(tmp_path).ok) == (6, 6)


def test_a_file_that_another_process_holds(tmp_path: Path) -> None:
    """``publish`` raises after ``busy_timeout_s`` with nothing accepted, and works as soon as it is free."""
    backend = Backend()
    with running(table_of(tmp_path, backend.handler(), {"busy_timeout_s": 0.2})) as app:
        app.publish("orders", 1).result(10)
        with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            with pytest.raises(OutboxBusyError, match="another process has been writing for too long"):
                app.publish("orders", 2)
            assert time.monotonic() - began < 5
            assert app.audit()[NAME].accepted == 1
        app.publish("orders", 3).result(10)
    assert backend.received == [1, 3]
    assert account(tmp_path).accepted == 2
