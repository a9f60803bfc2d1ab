"""Disks that fail: each system call on the outbox's files in turn, and a disk that is full for a while."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from dead_files import row
from outboxes import NAME, Backend, account, running, table_of
from recording import environment
from waiting import wait_until

from rambla_py import OutboxFullError, Rambla
from rambla_py.outbox.journal import Acceptance, Changes
from rambla_py.outbox.rows import Row
from rambla_py.outbox.sqlite.journal import SqliteJournal

_FOR_EVER = 1_000_000


def _runs(folder: Path, error: int, how_many: int) -> list[dict[str, Any]]:
    program = Path(__file__).with_name("faulty_program.py")
    command = [sys.executable, str(program), str(folder), str(error), str(how_many)]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("error", "how_many", "kinds"),
    [
        # A sync that fails for want of room, once, is an error like any other for SQLite.
        (errno.ENOSPC, 1, {"OutboxFullError", "OutboxError"}),
        (errno.ENOSPC, _FOR_EVER, {"OutboxFullError", "OutboxError"}),
        (errno.EDQUOT, _FOR_EVER, {"OutboxFullError", "OutboxError"}),
        (errno.EIO, 1, {"OutboxError"}),
        (errno.EIO, _FOR_EVER, {"OutboxError"}),
        (0, 1, set()),
    ],
    ids=["full once", "full", "over quota", "fails once", "fails", "short write"],
)
def test_each_call_fails_in_turn(tmp_path: Path, error: int, how_many: int, kinds: set[str]) -> None:
    """Nothing promised is lost, no publisher hangs, the accounts add up; one failure fails one publish at most."""
    runs = _runs(tmp_path, error, how_many)
    assert [run for run in runs if run["lost"]] == []
    errors = [one for run in runs for one in run["errors"]]
    found = {one.split(": ")[1] for one in errors}
    print(f"{len(runs)} runs, {len(errors)} errors: {found or 'none'}")
    assert found <= kinds
    if how_many == 1:
        assert all(len(run["errors"]) <= 2 for run in runs)  # both threads may be in one group
        assert len(runs) > 60
    elif error == errno.ENOSPC:
        assert sum("OutboxFullError" in one for one in errors) > len(errors) * 0.9
    elif error == errno.EDQUOT:
        assert any("OutboxFullError" in one for one in errors)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB; skips where it may not be mounted: the recorder lets calls fail there, too."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(folder)], check=False)
    if made.returncode:
        pytest.skip("no right to mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _fill(folder: Path) -> None:
    """Leave no byte free."""
    with (folder / "filling").open("ab", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)


def test_a_full_disk_is_drained_while_it_is_full(small_disk: Path) -> None:
    """Publishers get ``OutboxFullError``, deliveries go on and are removed; with room all is as before."""
    backend = Backend()
    backend.gate.clear()
    table = table_of(
        small_disk,
        backend.handler(),
        {"reserve_bytes": 524_288, "poll_s": 0.2},
        publish_timeout_s=0.2,
        max_pending=20,
    )
    promised: list[int] = []
    with running(table) as app:
        for at in range(200):
            app.publish("orders", [at, "x" * 4_000])
            promised.append(at)
        _fill(small_disk)
        with pytest.raises(OutboxFullError, match="full"):
            for at in range(200, 400):
                app.publish("orders", [at, "x" * 4_000])
                promised.append(at)
        before = len(backend.received)
        backend.gate.set()
        wait_until(lambda: len(backend.received) >= len(promised))
        assert before < 20
        wait_until(lambda: app.status()[NAME].in_outbox == 0)
        (small_disk / "filling").unlink()
        wait_until(lambda: _published(app, promised))
        assert app.flush(10)
        assert os.stat(small_disk / "outbox.db-reserve").st_size == 524_288
    assert [payload[0] for payload in backend.received] == promised
    found = account(small_disk)
    assert (found.ok, found.pending) == (len(promised), 0)


def test_a_process_that_starts_on_a_full_disk_delivers(small_disk: Path) -> None:
    """It becomes an owner and adopts in the room of the reserve."""
    backend = Backend()
    backend.gate.clear()
    table = table_of(small_disk, backend.handler(), {"reserve_bytes": 524_288})
    app = Rambla(table).start()
    for at in range(50):
        app.publish("orders", [at, "x" * 4_000])
    threading.Timer(0.3, backend.gate.set).start()
    app.stop(0.0)
    left = account(small_disk).pending
    assert left > 40
    _fill(small_disk)
    with running(table) as app:
        wait_until(lambda: {payload[0] for payload in backend.received} == set(range(50)))
        assert app.flush(10)
        (small_disk / "filling").unlink()
    assert account(small_disk).pending == 0


def stored_row(id_: str, payload: str = "same", **fields: Any) -> Row:
    return row(id_, NAME, payload, **fields)


def test_what_needs_no_room_is_stored_on_a_full_disk(small_disk: Path) -> None:
    """A given id that is stored already, and a row in place of another; new rows of the same commit are not."""
    journal = SqliteJournal(small_disk / "outbox.db", reserve_bytes=524_288)
    journal.open(delivers=True)
    first = Acceptance([stored_row("known", given_id=True), stored_row("primary")])
    journal.write([first], Changes())
    _fill(small_disk)
    too_large = Acceptance([stored_row("large", "x" * 2_000_000)])
    again = Acceptance([stored_row("known", given_id=True)])
    other = Acceptance([stored_row("known", "other", given_id=True)])
    fallback = Acceptance([row("primary", "probe.spare")], replaces=[(first.rows[1], "fatal")])
    unknown = Acceptance([stored_row("new", given_id=True)])
    calls = [too_large, again, other, fallback, unknown]
    journal.write(calls, Changes())
    accounts, _ = journal.ledger()
    journal.close()
    assert [type(one.error).__name__ for one in calls] == [
        *("OutboxFullError", "NoneType", "DuplicateIdError", "NoneType", "OutboxFullError"),
    ]
    assert [status for _, status in again.duplicates] == [None]
    assert (accounts[NAME].pending, accounts[NAME].fatal, accounts[NAME].duplicates) == (1, 1, 1)
    assert accounts["probe.spare"].pending == 1


def _published(app: Rambla, promised: list[int]) -> bool:
    try:
        app.publish("orders", [len(promised), "again"])
    except OutboxFullError:
        return False
    promised.append(len(promised))
    return True
