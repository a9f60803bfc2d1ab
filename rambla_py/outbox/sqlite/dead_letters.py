"""The dead letters of a SQLite journal."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from rambla_py.outbox.dead import Group, Reason, Selected, Selection
from rambla_py.outbox.digests import digest_of
from rambla_py.outbox.rows import Letter, Row
from rambla_py.outbox.sqlite.connection import JournalFile
from rambla_py.outbox.sqlite.files import Reserve
from rambla_py.outbox.sqlite.statements import add_counts, bury

__all__ = ["SqliteDeadLetters"]

_REMEMBERED_S: Final = 30 * 86_400.0
"""For how long a letter is known as replayed, rather than as gone."""

_READ: Final = """
SELECT seq, target.name, id, key, accepted, options, form, payload, crc, given_id, progress, owner, died,
    reason, error, errors, handler, fingerprint, attempts, replayed
FROM rambla_dead AS dead JOIN rambla_target AS target ON target.number = dead.target
WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY seq
"""
_GROUPS: Final = """
WITH found AS (
    SELECT fingerprint, target, count(*) AS count, min(died) AS first, max(died) AS last,
        max(seq) AS newest, sum(replayed > 0) AS replayed
    FROM rambla_dead WHERE {} GROUP BY fingerprint, target
)
SELECT found.fingerprint, found.count, target.name, dead.error, first, last, found.replayed
FROM found JOIN rambla_dead AS dead ON dead.seq = newest
    JOIN rambla_target AS target ON target.number = found.target
ORDER BY found.count DESC, last DESC, found.fingerprint
"""
_CONDITIONS: Final = {
    "ids": "id IN (SELECT value FROM json_each(:ids))",
    "group": "substr(fingerprint, 1, length(:group)) = :group",
    "channel": """target IN (
        SELECT number FROM rambla_target
        WHERE name = :channel OR substr(name, instr(name, '.') + 1) = :channel
    )""",
    "since": "died >= :since",
    "until": "died < :until",
    "error": "instr(lower(error), lower(:error)) > 0",
}
_TAKE: Final = "DELETE FROM rambla_dead WHERE seq = ? RETURNING target, id, given_id"
_INSERT: Final = """
INSERT INTO rambla_message (owner, target, id, key, accepted, options, form, payload, crc, given_id, progress)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_RECORD: Final = "INSERT OR REPLACE INTO rambla_replayed (letter, id, at) VALUES (?, ?, ?)"
_LAPSE: Final = "UPDATE rambla_seen SET status = 'fatal', until = ? WHERE target = ? AND id = ?"
# The window is not asked: the entry of the same target stays, and one of another target is replaced.
_SEE: Final = """
INSERT INTO rambla_seen (target, id, digest, seq) VALUES (?, ?, ?, ?)
ON CONFLICT (target, id) DO UPDATE SET seq = excluded.seq, status = NULL, until = NULL
"""


class SqliteDeadLetters:
    """The dead letters in the SQLite file of a journal.

    It has a connection of its own, so that a long list does not keep a running app from publishing.
    """

    def __init__(
        self,
        path: Path,
        *,
        dedup_window_s: float = 86_400.0,
        allow_network_filesystem: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = JournalFile(path, reserve=Reserve(path, 0), allow_network=allow_network_filesystem)
        self.name = self._file.name
        self._dedup_window_s, self._clock = dedup_window_s, clock

    def close(self) -> None:
        """Disconnect."""
        self._file.close()

    # -- reading --------------------------------------------------------------------------------------

    def select(self, selection: Selection) -> Selected:
        """Return the letters that match at this moment."""
        where, values = _condition(selection)
        with self._file.using() as connection:
            found = connection.execute(
                f"SELECT seq, id FROM rambla_dead WHERE {where} ORDER BY seq", values
            ).fetchall()
            as_of = self._clock()
            absent = set(selection.ids) - {id_ for _, id_ in found}
            missing = {id_: _fate(connection, "id", id_) for id_ in selection.ids if id_ in absent}
        return Selected(as_of, dict(found), missing)

    def groups(self, selection: Selection) -> list[Group]:
        """Return the letters that match, by channel and kind of error; the largest group first."""
        where, values = _condition(selection)
        with self._file.using() as connection:
            found = connection.execute(_GROUPS.format(where), values).fetchall()
        return [
            Group(
                fingerprint=name,
                count=count,
                channel=channel,
                error=error,
                first_at=first,
                last_at=last,
                replayed=replayed,
            )
            for name, count, channel, error, first, last, replayed in found
        ]

    def read(self, numbers: Sequence[int]) -> list[Letter]:
        """Return the letters with these numbers that are there, in order."""
        with self._file.using() as connection:
            return [_letter(found) for found in connection.execute(_READ, (json.dumps(list(numbers)),))]

    def absent(self, numbers: Sequence[int]) -> dict[int, Reason]:
        """Return why letters with these numbers are not there; those that are there are left out."""
        query = "SELECT seq FROM rambla_dead WHERE seq IN (SELECT value FROM json_each(?))"
        with self._file.using() as connection:
            there = {number for (number,) in connection.execute(query, (json.dumps(list(numbers)),))}
            return {one: _fate(connection, "letter", one) for one in numbers if one not in there}

    # -- writing --------------------------------------------------------------------------------------

    def move(self, moves: Sequence[tuple[int, Row]]) -> list[int]:
        """Replace letters with rows, in one transaction; return the numbers of those that were not there."""
        now, absent = self._clock(), []
        counts: Counter[tuple[int, str]] = Counter()
        with self._file.writing() as connection:
            for number, row in moves:
                taken = _take(connection, number)
                if taken is None:
                    absent.append(number)
                    continue
                old, id_, given_id = taken
                target = self._file.target(connection, row.target)
                row.seq = _insert(connection, row, target)
                counts[old, "replayed"] += 1
                counts[target, "accepted"] += 1
                connection.execute(_RECORD, (number, id_, now))
                if given_id:
                    if target != old:
                        connection.execute(_LAPSE, (now + self._dedup_window_s, old, id_))
                    connection.execute(_SEE, (target, id_, digest_of(row), row.seq))
            connection.execute("DELETE FROM rambla_replayed WHERE at < ?", (now - _REMEMBERED_S,))
            add_counts(connection, counts)
        return absent

    def add(self, letters: Sequence[Letter]) -> None:
        """Store the letters of messages that were not in the journal, in one transaction."""
        counts: Counter[tuple[int, str]] = Counter()
        with self._file.writing() as connection:
            for letter in letters:
                target = self._file.target(connection, letter.row.target)
                # By way of the rows, so that its number is used for nothing else.
                letter.row.seq = _insert(connection, letter.row, target)
                bury(connection, letter)
                connection.execute("DELETE FROM rambla_message WHERE seq = ?", (letter.row.seq,))
                counts[target, "accepted"] += 1
                counts[target, "fatal"] += 1
            add_counts(connection, counts)

    def drop(self, numbers: Sequence[int], *, replayed: bool = False) -> list[int]:
        """Remove letters; return the numbers of those that were not there."""
        now, absent = self._clock(), []
        counts: Counter[tuple[int, str]] = Counter()
        with self._file.writing() as connection:
            for number in numbers:
                taken = _take(connection, number)
                if taken is None:
                    absent.append(number)
                    continue
                target, id_, given_id = taken
                if given_id:
                    connection.execute(_LAPSE, (now + self._dedup_window_s, target, id_))
                if replayed:
                    connection.execute(_RECORD, (number, id_, now))
                    counts[target, "replayed"] += 1
            add_counts(connection, counts)
        return absent


def _condition(selection: Selection) -> tuple[str, dict[str, Any]]:
    """Return what a letter must fulfil, as SQL with its values."""
    values = {
        name: value for name in _CONDITIONS if (value := getattr(selection, name)) is not None and value != ()
    }
    where = " AND ".join(["1", *(_CONDITIONS[name] for name in values)])
    if selection.ids:
        values["ids"] = json.dumps(selection.ids)
    return where, values


def _take(connection: sqlite3.Connection, number: int) -> tuple[int, str, int] | None:
    """Remove a letter; return its target, id, and whether the id was given."""
    taken = connection.execute(_TAKE, (number,)).fetchall()
    return taken[0] if taken else None


def _insert(connection: sqlite3.Connection, row: Row, target: int) -> int:
    cursor = connection.execute(
        _INSERT,
        (
            *(row.share, target, row.id, row.key, row.accepted, row.options, row.form, row.payload),
            *(row.crc, row.given_id, row.progress),
        ),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _fate(connection: sqlite3.Connection, column: str, value: str | int) -> Reason:
    found = connection.execute(f"SELECT 1 FROM rambla_replayed WHERE {column} = ?", (value,)).fetchone()
    return "gone" if found is None else "already replayed"


def _letter(found: tuple[Any, ...]) -> Letter:
    seq, target, id_, key, accepted, options, form, payload, crc, given_id, progress, owner, *rest = found
    died, reason, error, errors, handler, fingerprint, attempts, replayed = rest
    row = Row(
        *(target, id_, key, accepted, payload, form, options),
        given_id=bool(given_id),
        progress=progress,
        crc=crc,
        share=owner,
        seq=seq,
    )
    return Letter(
        row=row,
        died=died,
        reason=reason,
        error=error,
        errors=tuple(json.loads(errors)),
        handler=handler,
        fingerprint=fingerprint,
        attempts=attempts,
        replayed=replayed,
    )
