"""The owners of a SQLite journal as rows of its tables: begun, taken over, and ended."""

from __future__ import annotations

import json
import sqlite3

from rambla_py.outbox.journal import Share

__all__ = ["begin_owner", "close_owners", "end_owner", "owners", "taken"]


def begin_owner(connection: sqlite3.Connection, now: float) -> int:
    """Return the number of a new owner."""
    number = connection.execute("INSERT INTO rambla_owner (started) VALUES (?)", (now,)).lastrowid
    assert number is not None
    return number


def close_owners(connection: sqlite3.Connection, numbers: list[int]) -> list[int]:
    """Record that owners have ended by themselves; remove those without rows, and return them."""
    empty = [one for one in numbers if one and not _has_rows(connection, one)]
    connection.executemany("UPDATE rambla_owner SET closed = 1 WHERE number = ?", [(one,) for one in numbers])
    for number in empty:
        _remove(connection, number)
    return empty


def end_owner(connection: sqlite3.Connection, number: int) -> bool:
    """Remove an owner if it has no rows any more; return whether it has none."""
    if _has_rows(connection, number):
        return False
    _remove(connection, number)
    return True


def owners(connection: sqlite3.Connection) -> dict[int, int | None]:
    """Return the owners in order, each with the one that has adopted it."""
    return dict(connection.execute("SELECT number, adopter FROM rambla_owner ORDER BY number").fetchall())


def taken(connection: sqlite3.Connection, number: int, adopter: int) -> Share | None:
    """Record that the process of an owner has ended; return the owner as a share of this process.

    Return None for one that has ended without rows since its number was read.
    """
    found = connection.execute("SELECT closed FROM rambla_owner WHERE number = ?", (number,)).fetchone()
    if found is None:
        return None
    (closed,) = found
    connection.execute("UPDATE rambla_owner SET closed = 0, adopter = ? WHERE number = ?", (adopter, number))
    deaths = {}
    query = "SELECT target, max(seq) FROM rambla_message WHERE owner = ? GROUP BY target"
    for target, last in connection.execute(query, (number,)).fetchall():
        found = connection.execute(
            "SELECT upto, deaths FROM rambla_handed WHERE owner = ? AND target = ?", (number, target)
        ).fetchone()
        # Rows of owner 0 are always read from here; those of others may have been delivered as they came.
        upto, before = (last if number else 0, []) if found is None else (found[0], json.loads(found[1]))
        if not closed and upto != 0:
            before.append(last if upto is None else upto)
        connection.execute(
            "INSERT OR REPLACE INTO rambla_handed (owner, target, upto, deaths) VALUES (?, ?, 0, ?)",
            (number, target, json.dumps(before)),
        )
        (name,) = connection.execute("SELECT name FROM rambla_target WHERE number = ?", (target,)).fetchone()
        deaths[name] = tuple(before)
    return Share(number, deaths=deaths)


def _remove(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("DELETE FROM rambla_owner WHERE number = ?", (number,))
    connection.execute("DELETE FROM rambla_handed WHERE owner = ?", (number,))


def _has_rows(connection: sqlite3.Connection, owner: int) -> bool:
    query = """
        SELECT 1 FROM rambla_target
        WHERE EXISTS (SELECT 1 FROM rambla_message WHERE target = number AND owner = ?)
    """
    return connection.execute(query, (owner,)).fetchone() is not None
