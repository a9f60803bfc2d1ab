"""Audits from signal handlers: they have a connection of their own, and wait for nothing of their thread."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from interruptions import Point, every_point, interrupted_at
from outboxes import Backend, running, table_of

from rambla_py import OutboxBusyError, Rambla
from rambla_py.outbox.sqlite.journal import SqliteJournal

PROGRAM = Path(__file__).with_name("forking_program.py")
FILES = tuple(f"outbox/sqlite/{name}.py" for name in ("journal", "connection", "transaction"))
BUSY = {"busy_timeout_s": 0.3}


def test_an_audit_at_every_point_of_a_publish(tmp_path: Path) -> None:
    """It answers: a reader of a file with tables needs no write lock, which its own thread may have."""
    with running(table_of(tmp_path, Backend().handler(), BUSY)) as app:
        audits = []

        def publish(number: int) -> Point:
            action = lambda: audits.append(app.outbox.audit())  # noqa: E731 - it has no frame that is traced
            with interrupted_at(number * 2, FILES, action) as point:
                app.publish("orders", number)
            return point

        assert every_point(publish) > 5
        assert all(audit.balanced for audit in audits)


def test_an_audit_at_every_point_of_a_start(tmp_path: Path) -> None:
    """While the tables are made, or a lock is taken, it answers or raises ``OutboxBusyError``."""
    refused: list[Any] = []

    def look(app: Rambla) -> None:
        try:
            assert app.outbox.audit().balanced
            app.outbox.status()
        except OutboxBusyError as error:
            refused.append(error)

    def start(number: int) -> Point:
        app = Rambla(table_of(tmp_path / str(number), Backend().handler(), BUSY))
        files = (*FILES, "outbox/sqlite/owners.py")
        with interrupted_at(number * 3, files, lambda: look(app)) as point:
            app.start()
        assert app.publish("orders", 1).result(10) is None
        journal = SqliteJournal(tmp_path / str(number) / "outbox.db")
        journal.open(delivers=False)
        assert journal.totals().owners_alive == 1
        journal.close()
        app.stop()
        return point

    assert every_point(start) > 10
    assert refused
    assert all("interrupted" in str(error) for error in refused)


def test_a_lock_is_made_at_every_point_of_a_fork() -> None:
    """By a signal handler of the thread that forks, which holds all of these locks meanwhile."""
    done = _interrupted_forks("make")
    assert done.stderr == b""  # what is raised there ends there, and is printed
    assert int(done.stdout) > 10


def test_a_fork_that_is_interrupted_leaves_no_lock_held() -> None:
    """An exception of a signal handler ends at the hook, which Python reports, and other threads go on."""
    done = _interrupted_forks("raise")
    assert b"InterruptedForkError" in done.stderr
    assert int(done.stdout) > 10


def _interrupted_forks(action: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(PROGRAM), action]
    return subprocess.run(command, env=environment, capture_output=True, check=True, timeout=100)
