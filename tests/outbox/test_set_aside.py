"""Stored messages that a channel cannot take: set aside as they are, from this process or another."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.msgpack import Ext
from outboxes import NAME, Backend, account, running, table_of
from waiting import wait_until

from rambla_py.outbox.codec import dump_value
from rambla_py.outbox.rows import Row

_called: list[Any] = []


def remember(argument: Any) -> bytes:
    """Record a call; rows of the tests name this function."""
    _called.append(argument)
    return b"made by a function of a row"


def pack(value: Any) -> bytes:
    """Return MessagePack, also of what ``dump_value`` would refuse."""
    return msgspec.msgpack.encode(value)


def write(folder: Path, message_id: str, payload: bytes, options: bytes | None = None) -> None:
    """Store a row with a right checksum, as any program could that may write to the file."""
    row = Row(NAME, message_id, None, time.time(), payload, options=options)
    row.seal()
    values = (NAME, row.id, row.accepted, options, payload, row.crc)
    with closing(sqlite3.connect(folder / "outbox.db")) as connection, connection:
        connection.execute(
            "INSERT INTO rambla_arrival (target, id, accepted, wait_s, options, form, payload, crc) "
            "VALUES (?, ?, ?, 0, ?, 'value', ?, ?)",
            values,
        )


def reasons(folder: Path) -> list[tuple[str, str]]:
    """Return the ids and reasons of the dead letters."""
    with closing(sqlite3.connect(folder / "outbox.db")) as connection:
        return connection.execute("SELECT id, reason FROM rambla_dead").fetchall()


@pytest.mark.parametrize(
    ("payload", "options", "reason"),
    [
        (b"\xc1", None, "unreadable"),
        (pack(Ext(7, pack(5))), None, "unreadable"),
        (pack(Ext(7, pack(["a", 1, 1]))), None, "unreadable"),
        (dump_value(1), pack([]), "unreadable"),
        (dump_value(1), pack({5: 1}), "unreadable"),
        (dump_value(1), pack({"no_such": 1}), "options"),
    ],
)
def test_what_cannot_be_read_holds_nothing_up(
    tmp_path: Path, payload: bytes, options: bytes | None, reason: str
) -> None:
    """It becomes a dead letter; the message after it is delivered, and the accounts add up."""
    backend = Backend()
    with running(table_of(tmp_path, backend.handler(), {"poll_s": 0.05})):
        write(tmp_path, "bad", payload, options)
        write(tmp_path, "good", dump_value("good"))
        wait_until(lambda: backend.received == ["good"] and reasons(tmp_path) == [("bad", reason)])
    assert account(tmp_path).fatal == 1


@pytest.mark.parametrize(
    "options",
    [
        {"callbacks": {"on_success": f"{__name__}:remember"}},
        {"serializer": f"{__name__}:remember"},
        {"serializer": ["json"]},
    ],
)
def test_a_row_names_no_function(tmp_path: Path, options: dict[str, Any]) -> None:
    """What ``publish`` refuses to store is not taken from the journal either: it would be called."""
    _called.clear()
    backend = Backend()
    with running(table_of(tmp_path, backend.handler(takes="bytes"), {"poll_s": 0.05})):
        write(tmp_path, "bad", dump_value({"id": 1}), pack(options))
        wait_until(lambda: reasons(tmp_path) == [("bad", "options")])
    assert backend.received == []
    assert _called == []


def test_a_fallback_gets_no_message_that_cannot_be_read(tmp_path: Path) -> None:
    """It would deliver None in its place, and the row would be gone."""
    backend, spare = Backend(), Backend()
    table = table_of(tmp_path, backend.handler(), {"poll_s": 0.05}, fallback="spare")
    table["other"] = {
        "handler": spare.handler(),
        "connections": {"default": {}},
        "channels": {"spare": {"connection": "default"}},
    }
    with running(table):
        write(tmp_path, "bad", b"\xc1")
        wait_until(lambda: reasons(tmp_path) == [("bad", "unreadable")])
    assert spare.received == []


def test_rows_of_writers_for_a_channel_that_is_gone(tmp_path: Path) -> None:
    """They come while the app runs: they are set aside then, not at its next start."""
    backend = Backend()
    others = table_of(tmp_path, backend.handler(), {"deliver": False})
    others["probe"]["channels"]["gone"] = others["probe"]["channels"]["orders"]
    with (
        running(table_of(tmp_path, backend.handler(), {"poll_s": 0.05})),
        running(others) as writer,
    ):
        writer.publish("gone", 1)
        writer.publish("orders", 2)
        wait_until(lambda: [reason for _, reason in reasons(tmp_path)] == ["no channel"])
        wait_until(lambda: backend.received == [2])
    assert account(tmp_path, "probe.gone").fatal == 1


def test_rows_of_writers_for_a_channel_that_is_disabled(tmp_path: Path, caplog: Any) -> None:
    """They come while the app runs: they are kept, and named in the log once."""
    backend = Backend()
    table = table_of(tmp_path, backend.handler(), {"poll_s": 0.05})
    channels = table["probe"]["channels"]
    channels["off"] = {**channels["orders"], "enabled": False}
    others = table_of(tmp_path, backend.handler(), {"deliver": False})
    others["probe"]["channels"]["off"] = others["probe"]["channels"]["orders"]
    with running(table) as app, running(others) as writer:
        writer.publish("off", 1)
        wait_until(lambda: "probe.off has messages, but is disabled or not durable" in caplog.text)
        for number in range(2):
            writer.publish("orders", number)
            assert app.flush(30)
    assert caplog.text.count("probe.off has messages") == 1
    assert (account(tmp_path, "probe.off").pending, backend.received) == (1, [0, 1])
