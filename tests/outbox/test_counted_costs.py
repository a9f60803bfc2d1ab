"""What a durable message costs, counted: neither the machine nor its load changes it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from counted_calls import Calls
from outboxes import Backend, running, table_of
from recording import PROMISES, SYNC_ENDS, WRITE, calls_of, environment

PAYLOAD = {"id": 42, "name": "Ann"}


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    """By way of publishing: messages, statements, changed rows, and syncs."""
    folder = tmp_path_factory.mktemp("counted")
    command = [sys.executable, str(Path(__file__).with_name("counted_program.py")), str(folder)]
    done = subprocess.run(
        command, env=environment(folder / "calls"), check=True, capture_output=True, timeout=60
    )
    found: dict[str, Any] = json.loads(done.stdout)
    current = None
    for call in calls_of(folder / "calls"):
        if call.file == PROMISES and call.kind == WRITE:
            kind, name = re.fullmatch(r"(begin|end) (.*)\n", call.data.decode()).groups()  # type: ignore[union-attr]
            current = found[name] if kind == "begin" else None
            found[name].setdefault("syncs", 0)
        elif current is not None and call.kind == SYNC_ENDS:
            current["syncs"] += 1
    return found


@pytest.mark.parametrize(
    ("way", "syncs", "rows", "statements"),
    [
        # A transaction has 4 statements: begin, insert up to 25 rows, count, commit.
        ("one by one", 20, 40, 20 * 4),
        ("eight threads", 1, 9, 4),
        ("five hundred", 1, 501, 3 + 500 // 25),
        ("removed", 1, 401, 5),
        # The removals cost no transaction of their own.
        ("removed with the next", 1, 100 + 1 + 2, 6),
    ],
)
def test_what_a_message_costs(
    counted: dict[str, dict[str, int]], way: str, syncs: int, rows: int, statements: int
) -> None:
    """One sync for each transaction; two changed rows for each message, and one for each group and target."""
    found = counted[way]
    print(way, found)
    assert found["syncs"] == syncs
    assert found["rows"] <= rows
    assert found["statements"] <= statements


@pytest.mark.parametrize("deliver", [False, True])
def test_a_durable_publish_makes_few_calls(tmp_path: Path, deliver: bool) -> None:
    """On the thread that publishes, whether the messages are delivered from its process or by another one."""
    calls = Calls()
    with running(table_of(tmp_path, Backend().handler(), {"deliver": deliver})) as app:
        app.publish("orders", PAYLOAD)
        with calls.counting():
            for _ in range(50):
                app.publish("orders", PAYLOAD)
    assert 150 < calls.per_message(50) < 205, calls.found.most_common(12)


def test_a_durable_publish_of_many_makes_fewer(tmp_path: Path) -> None:
    """For each message: its row, its values, its checksum; and the way into the mailbox."""
    calls = Calls()
    with running(table_of(tmp_path, Backend().handler(), {})) as app:
        app.publish("orders", PAYLOAD)
        with calls.counting():
            app.publish_many("orders", [PAYLOAD] * 500)
    assert 30 < calls.per_message(500) < 39, calls.found.most_common(12)
