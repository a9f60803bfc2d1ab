"""Rows, dead letters and counters as statements of SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from rambla_py.outbox.rows import Letter, Row

__all__ = ["add_counts", "bury", "insert", "read_rows"]

_INSERT = """
INSERT INTO rambla_message (seq, owner, target, id, key, accepted, due, wait_s, options, form, payload, crc,
    given_id, progress) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_READ = """
SELECT target.name, id, key, accepted, payload, form, options, due, wait_s, given_id, progress, started, crc,
    owner, seq
FROM rambla_message AS message JOIN rambla_target AS target ON target.number = message.target
"""
_READ_HEAD = f"{_READ} WHERE target.name = ? AND owner = ? AND seq > ? ORDER BY seq LIMIT ?"
_COUNT = """
INSERT INTO rambla_account (target, name, count) VALUES (?, ?, ?)
ON CONFLICT (target, name) DO UPDATE SET count = count + excluded.count
"""
_DEAD = """
INSERT INTO rambla_dead (seq, target, id, key, accepted, options, form, payload, crc, given_id, owner,
    progress, died, reason, error, errors, handler, fingerprint, attempts, replayed)
SELECT seq, target, id, key, accepted, options, form, payload, crc, given_id, owner, ?, ?, ?, ?, ?, ?, ?, ?, ?
FROM rambla_message WHERE seq = ?
"""


def insert(connection: sqlite3.Connection, rows: Iterable[tuple[Row, int]]) -> None:
    """Store rows with their numbers, each with the number of its target."""
    connection.executemany(_INSERT, [_values(row, target) for row, target in rows])


def read_rows(connection: sqlite3.Connection, share: int, target: str, after: int, limit: int) -> list[Row]:
    """Return the rows of an owner for a target, in order, from the one after ``after``."""
    return [_row(found) for found in connection.execute(_READ_HEAD, (target, share, after, limit))]


def bury(connection: sqlite3.Connection, letter: Letter) -> None:
    """Store the letter of a row that is in the journal still."""
    connection.execute(_DEAD, _letter_values(letter))


def add_counts(connection: sqlite3.Connection, counts: dict[tuple[int, str], int]) -> None:
    """Add to the accounts of targets, by number and name."""
    if counts:
        connection.executemany(_COUNT, [(*place, number) for place, number in counts.items()])


def _row(found: tuple[Any, ...]) -> Row:
    target, id_, key, accepted, payload, form, options, due, wait_s, given_id, progress, *rest = found
    started, crc, share, seq = rest
    return Row(
        *(target, id_, key, accepted, payload, form, options, due, wait_s),
        given_id=bool(given_id),
        progress=progress,
        started=bool(started),
        crc=crc,
        share=share,
        seq=seq,
    )


def _values(row: Row, target: int) -> tuple[Any, ...]:
    return (
        *(row.seq, row.share, target, row.id, row.key, row.accepted, row.due, row.wait_s, row.options),
        *(row.form, row.payload, row.crc, row.given_id, row.progress),
    )


def _letter_values(letter: Letter) -> tuple[Any, ...]:
    return (
        *(letter.row.progress, letter.died, letter.reason, letter.error, json.dumps(letter.errors)),
        *(letter.handler, letter.fingerprint, letter.attempts, letter.replayed, letter.row.seq),
    )
