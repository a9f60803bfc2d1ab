"""A program in which each system call on the files of the outbox fails in turn.

Arguments: a folder, the error number (0: a short write), and how many calls fail, one after the other. For
each call it runs an app that publishes and delivers, and writes a line of JSON: what was promised, delivered,
left in the journal, and lost, and the errors that start and publish raised.
"""

from __future__ import annotations

import ctypes
import json
import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

from outboxes import NAME, Backend, table_of

from rambla_py import Rambla, RamblaError
from rambla_py.outbox.row_of import decoded
from rambla_py.outbox.sqlite import connection
from rambla_py.outbox.sqlite.journal import SqliteJournal

RECORDER = ctypes.CDLL(None)
RECORDER.recorder_calls.restype = ctypes.c_longlong
FOLDER, ERROR, HOW_MANY = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
MESSAGES = 2
FILL = "x" * 3_000

# The log is moved into the file often: that is what is to fail as well.
connection._PAGES_BETWEEN_CHECKPOINTS = 12


def fail(number: int) -> None:
    RECORDER.recorder_fail(ctypes.c_longlong(number), ctypes.c_int(ERROR), ctypes.c_longlong(HOW_MANY))


def run(number: int) -> dict[str, Any]:
    """Run an app whose ``number``-th call fails; none with -1."""
    folder = FOLDER / str(number)
    folder.mkdir()
    backend = Backend()
    table = table_of(folder, backend.handler(), {"reserve_bytes": 65_536}, publish_timeout_s=0.1)
    promised: list[int] = []
    errors: list[str] = []
    before = RECORDER.recorder_calls()
    fail(number)
    app = None
    try:
        app = Rambla(table).start()
    except RamblaError as error:
        errors.append(f"start: {type(error).__name__}: {error}")
    if app is not None:
        threads = [threading.Thread(target=_publish, args=(app, one, promised, errors)) for one in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive(), "a publisher hangs"
        if HOW_MANY == 1:
            # One call that fails leaves nothing broken; it may be one of the first of these.
            last: list[str] = []
            _publish(app, 9, promised, last)
            assert len(last) <= 1
            errors.extend(last)
            assert app.flush(10), "what was accepted is not delivered"
        began = time.monotonic()
        app.stop(1.0)
        assert time.monotonic() - began < 15, "the stop hangs"
    calls = RECORDER.recorder_calls() - before
    fail(-1)
    kept = _kept(folder)
    received = {payload[0] for payload in backend.received}
    return {
        "calls": calls,
        "lost": sorted(set(promised) - received - kept),
        "promised": len(promised),
        "delivered": len(received),
        "kept": len(kept),
        "errors": errors,
    }


def _kept(folder: Path) -> set[int]:
    """Return what is left in the journal, whose accounts must add up; it may never have been made."""
    journal = SqliteJournal(folder / "outbox.db", reserve_bytes=0)
    journal.open(delivers=True)
    accounts, sequence = journal.ledger()
    assert all(account.difference == 0 for account in accounts.values()), accounts
    assert sum(account.accepted for account in accounts.values()) == sequence
    rows = [row for share in journal.claim() for row in journal.read(share.number, NAME, 0, 1_000)]
    journal.close()
    assert all(row.sound for row in rows)
    return {decoded(row)[0] for row in rows}


def _publish(app: Rambla, thread: int, promised: list[int], errors: list[str]) -> None:
    for at in range(MESSAGES):
        try:
            app.publish("orders", [thread * 10 + at, FILL])
        except RamblaError as error:
            errors.append(f"publish: {type(error).__name__}: {error}")
        else:
            promised.append(thread * 10 + at)


def main() -> None:
    logging.disable(logging.CRITICAL)
    step = 1 if HOW_MANY == 1 else 5
    number, calls = -1, 1
    while number < calls:
        found = run(number)
        print(json.dumps({"number": number, **found}), flush=True)
        # Which thread commits for whom varies, so there may be more calls the next time.
        calls = max(calls, found["calls"]) if number < 0 else calls
        number += 1 if number < 0 else step


main()
