"""Rows, dead letters and counters as statements of SQLite."""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from rambla_py.outbox.rows import Letter, Row

__all__ = ["add_counts", "bury", "insert", "read_rows"]

_COLUMNS = "owner, target, id, key, accepted, due, wait_s, options, form, payload, crc, given_id, progress"
_PLAIN_COLUMNS = "owner, target, id, key, accepted, form, payload, crc"
"""Those that most rows need; the others have the values of a row without options."""
_AT_ONCE = 25
"""Rows in one statement; more are not faster."""

_READ = """
SELECT target.name, id, key, accepted, payload, form, options, due, wait_s, given_id, progress, started, crc,
    owner, seq
FROM rambla_message AS message JOIN rambla_target AS target ON target.number = message.target
"""
_READ_HEAD = f"{_READ} WHERE target.name = ? AND owner = ? AND seq > ? ORDER BY seq LIMIT ?"
_COUNT = """
INSERT INTO rambla_account (target, name, count) VALUES {}
ON CONFLICT (target, name) DO UPDATE SET count = count + excluded.count
"""
_DEAD = """
INSERT INTO rambla_dead (seq, target, id, key, accepted, options, form, payload, crc, given_id, owner,
    progress, died, reason, error, errors, handler, fingerprint, attempts, replayed)
SELECT seq, target, id, key, accepted, options, form, payload, crc, given_id, owner, ?, ?, ?, ?, ?, ?, ?, ?, ?
FROM rambla_message WHERE seq = ?
"""


def insert(
    connection: sqlite3.Connection, rows: Sequence[Row], share: int, targets: Mapping[str, int]
) -> None:
    """Store rows in a share, and set their numbers; ``targets`` has the numbers of their targets.

    One statement with many rows costs a quarter less than as many statements with one, and lets other threads
    take the GIL once, of which each may keep it for 5 ms.
    """
    last = 0
    for at in range(0, len(rows), _AT_ONCE):
        some = rows[at : at + _AT_ONCE]
        plain = not [
            row for row in some if row.options or row.given_id or row.due is not None or row.progress
        ]
        columns, values_of = (_PLAIN_COLUMNS, _plain_values) if plain else (_COLUMNS, _values)
        values: list[Any] = []
        for row in some:
            values += values_of(row, share, targets[row.target])
        last = connection.execute(_insert_of(columns, len(some)), values).lastrowid or 0
    # The numbers of one transaction follow each other: AUTOINCREMENT adds one to the largest ever used.
    for seq, row in enumerate(rows, last - len(rows) + 1):
        row.seq, row.share = seq, share


@functools.cache
def _insert_of(columns: str, number: int) -> str:
    group = f"(?{', ?' * columns.count(',')})"
    return f"INSERT INTO rambla_message ({columns}) VALUES " + ", ".join([group] * number)


def read_rows(connection: sqlite3.Connection, share: int, target: str, after: int, limit: int) -> list[Row]:
    """Return the rows of an owner for a target, in order, from the one after ``after``."""
    return [_row(found) for found in connection.execute(_READ_HEAD, (target, share, after, limit))]


def bury(connection: sqlite3.Connection, letter: Letter) -> None:
    """Store the letter of a row that is in the journal still."""
    connection.execute(_DEAD, _letter_values(letter))


def add_counts(connection: sqlite3.Connection, counts: Mapping[tuple[int, str], int]) -> None:
    """Add to the accounts of targets, by number and name."""
    places = [(*place, number) for place, number in counts.items() if number]
    for at in range(0, len(places), _AT_ONCE):
        some = places[at : at + _AT_ONCE]
        values = [value for place in some for value in place]
        connection.execute(_count_of(len(some)), values)


@functools.cache
def _count_of(number: int) -> str:
    return _COUNT.format(", ".join(["(?, ?, ?)"] * number))


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


def _plain_values(row: Row, share: int, target: int) -> tuple[Any, ...]:
    return share, target, row.id, row.key, row.accepted, row.form, row.payload, row.crc


def _values(row: Row, share: int, target: int) -> tuple[Any, ...]:
    return (
        share,
        target,
        row.id,
        row.key,
        row.accepted,
        row.due,
        row.wait_s,
        row.options,
        row.form,
        row.payload,
        row.crc,
        row.given_id,
        row.progress,
    )


def _letter_values(letter: Letter) -> tuple[Any, ...]:
    return (
        *(letter.row.progress, letter.died, letter.reason, letter.error, json.dumps(letter.errors)),
        *(letter.handler, letter.fingerprint, letter.attempts, letter.replayed, letter.row.seq),
    )
