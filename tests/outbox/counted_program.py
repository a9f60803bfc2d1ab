"""A program that counts what a durable message costs: SQL statements and changed rows, between recorded marks.

It prints a line of JSON: for each way of publishing, the number of messages, statements, and changed rows.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from outboxes import NAME, Backend, account, table_of
from waiting import wait_until

from rambla_py import Rambla
from rambla_py.outbox.journal import Changes

FOLDER = Path(sys.argv[1])
MARKS = os.open(FOLDER / "outbox.db-promises", os.O_WRONLY | os.O_CREAT, 0o600)

app = Rambla(table_of(FOLDER, Backend().handler(), {"deliver": False, "reserve_bytes": 65_536})).start()
app.publish("orders", "the first one, which opens everything")
outbox: Any = app._lifecycle.outbox
journal = outbox.journal
connection = journal._file._write_lock.connection
statements: list[str] = []
counted: dict[str, Any] = {}


def count(name: str, messages: int, act: Any) -> None:
    os.write(MARKS, f"begin {name}\n".encode())
    rows = connection.total_changes
    statements.clear()
    connection.set_trace_callback(statements.append)
    act()
    connection.set_trace_callback(None)
    os.write(MARKS, f"end {name}\n".encode())
    counted[name] = {
        "messages": messages,
        "statements": len(statements),
        "rows": connection.total_changes - rows,
    }


def one_by_one() -> None:
    for at in range(20):
        app.publish("orders", at)


def eight_threads() -> None:
    threads = [threading.Thread(target=app.publish, args=("orders", at)) for at in range(8)]
    with outbox._writer.role():
        for thread in threads:
            thread.start()
        wait_until(lambda: len(outbox._writer._queue) == 8)
    for thread in threads:
        thread.join()


def five_hundred() -> None:
    app.publish_many("orders", range(500))


def removed() -> None:
    journal.write((), Changes(ended=[(row, "ok") for row in rows]))


def removed_with_the_next() -> None:
    outbox.pending.end([(row, "ok") for row in others])
    app.publish("orders", "next")


count("one by one", 20, one_by_one)
count("eight threads", 8, eight_threads)
count("five hundred", 500, five_hundred)
rows = journal.read(0, NAME, 0, 400)
count("removed", 400, removed)
others = journal.read(0, NAME, 0, 100)
count("removed with the next", 100, removed_with_the_next)
app.stop(5)
assert account(FOLDER).difference == 0
print(json.dumps(counted))
