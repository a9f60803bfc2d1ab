"""The statements of one transaction of a SQLite journal."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from rambla_py.outbox.digests import digest_of
from rambla_py.outbox.errors import DuplicateIdError, OutboxFullError
from rambla_py.outbox.journal import Acceptance, Changes
from rambla_py.outbox.room import CommitRoom
from rambla_py.outbox.rows import Row
from rambla_py.outbox.sqlite.statements import add_counts, bury, insert
from rambla_py.outcome import Status

__all__ = ["JournalTransaction", "in_parts"]

_ROWS_WHILE_FULL = 8

_DELETE = "DELETE FROM rambla_message WHERE seq IN (SELECT value FROM json_each(?)) RETURNING seq"
_DELETE_RUN = "DELETE FROM rambla_message WHERE seq BETWEEN ? AND ?"
_START = "UPDATE rambla_message SET started = 1 WHERE seq IN (SELECT value FROM json_each(?))"
_SEEN = """
SELECT digest, status, (SELECT owner FROM rambla_message WHERE rambla_message.seq = rambla_seen.seq)
FROM rambla_seen WHERE target = ? AND id = ? AND (until IS NULL OR until > ?)
"""
_SEE = """
INSERT OR REPLACE INTO rambla_seen (target, id, digest, seq, status, until) VALUES (?, ?, ?, ?, NULL, NULL)
"""
_HANDED = """
INSERT INTO rambla_handed (owner, target, upto) VALUES (?, ?, ?)
ON CONFLICT (owner, target) DO UPDATE SET upto = excluded.upto
"""


class JournalTransaction:
    """Writes to the tables in a transaction that its caller has begun, and commits.

    ``target`` returns the number of a target, ``now`` is in seconds since the epoch. All counts are added to
    the accounts by one statement, in ``finish``.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        target: Callable[[sqlite3.Connection, str], int],
        *,
        now: float,
        dedup_window_s: float,
    ) -> None:
        self._connection, self._target = connection, target
        self._now, self._dedup_window_s = now, dedup_window_s
        self._counts: dict[tuple[int, str], int] = {}
        self._given: dict[tuple[int, str], tuple[bytes, Row]] = {}

    def finish(self) -> None:
        """Add up what was counted."""
        add_counts(self._connection, self._counts)

    def _count(self, target: int, name: str, number: int = 1) -> None:
        place = (target, name)
        self._counts[place] = self._counts.get(place, 0) + number

    # -- new rows -------------------------------------------------------------------------------------

    def accept(
        self, acceptances: Sequence[Acceptance], room: CommitRoom, share: int, delivered: Collection[int]
    ) -> None:
        """Store rows in a share, and set their numbers; ``error`` of an acceptance that is refused.

        ``delivered`` are the shares that this process delivers. Rows that are stored already need no room.
        """
        rows: list[Row] = []
        replaced: list[tuple[Row, Status]] = []
        for one in acceptances:
            try:
                self._set_duplicates_aside(one, room, share, delivered)
            except (DuplicateIdError, OutboxFullError) as error:
                one.error = error
            else:
                rows += one.rows
                replaced += one.replaces
        if rows:
            names = [row.target for row in rows]
            targets = {name: self._target(self._connection, name) for name in set(names)}
            insert(self._connection, rows, share, targets)
            for name, target in targets.items():
                self._count(target, "accepted", names.count(name))
        if self._given:
            seen = [(*place, digest, row.seq) for place, (digest, row) in self._given.items()]
            self._connection.executemany(_SEE, seen)
        if replaced:
            self._remove(Changes(ended=replaced))

    def _set_duplicates_aside(
        self, one: Acceptance, room: CommitRoom, share: int, delivered: Collection[int]
    ) -> None:
        """Remove the rows that are stored already, and take the room of the others.

        Raises ``DuplicateIdError`` and ``OutboxFullError``, with nothing recorded.
        """
        known: list[tuple[Row, Status | None]] = []
        new: dict[tuple[int, str], tuple[bytes, Row]] = {}
        for row in [row for row in one.rows if row.given_id]:
            place, digest = (self._target(self._connection, row.target), row.id), digest_of(row)
            found = new.get(place) or self._given.get(place)
            if found is not None:
                first, status, owner = found[0], None, share
            else:
                stored = self._connection.execute(_SEEN, (*place, self._now)).fetchone()
                if stored is None:
                    new[place] = digest, row
                    continue
                first, status, owner = stored
            if first != digest:
                raise DuplicateIdError(row.target, row.id)
            row.share = owner if owner in delivered else -1
            known.append((row, status))
        aside = {id(row) for row, _ in known}
        rows = [row for row in one.rows if id(row) not in aside] if aside else one.rows
        room.take(rows, len(one.replaces))
        if not (new or known):
            return
        self._given |= new
        for row, _ in known:
            self._count(self._target(self._connection, row.target), "duplicates")
        one.duplicates, one.rows = known, rows

    # -- changes --------------------------------------------------------------------------------------

    def apply(self, changes: Changes) -> None:
        """Apply changes; those that were applied before change nothing, and count nothing."""
        if changes.progress:
            self._connection.executemany(
                "UPDATE rambla_message SET progress = ?, due = ?, wait_s = ? WHERE seq = ?",
                [(*values, seq) for seq, values in changes.progress.items()],
            )
        if changes.started:
            self._connection.execute(_START, (json.dumps(changes.started),))
        for (share, name), upto in changes.cursors.items():
            self._connection.execute(_HANDED, (share, self._target(self._connection, name), upto))
        for letter in changes.dead:
            bury(self._connection, letter)
        if changes.ended or changes.dead:
            self._remove(changes)

    def _remove(self, changes: Changes) -> None:
        """Delete rows that have ended, and count those that were still there."""
        if not changes.dead and _is_run(changes.ended):
            self._remove_run(changes.ended)
            return
        gone: dict[int, tuple[Row, Status]] = {row.seq: (row, status) for row, status in changes.ended}
        gone |= {letter.row.seq: (letter.row, "fatal") for letter in changes.dead}
        dead = {letter.row.seq for letter in changes.dead}
        seen: list[tuple[Any, ...]] = []
        until = self._now + self._dedup_window_s
        for (seq,) in self._connection.execute(_DELETE, (json.dumps(list(gone)),)).fetchall():
            row, status = gone[seq]
            target = self._target(self._connection, row.target)
            self._count(target, status)
            if row.given_id and seq not in dead:
                seen.append((status, until, target, row.id))
        if seen:
            self._connection.executemany(
                "UPDATE rambla_seen SET status = ?, until = ? WHERE target = ? AND id = ?", seen
            )

    def _remove_run(self, ended: Sequence[tuple[Row, Status]]) -> None:
        """Delete rows that follow each other, without a look at each of them."""
        first, status = ended[0]
        number = self._connection.execute(_DELETE_RUN, (first.seq, ended[-1][0].seq)).rowcount
        self._count(self._target(self._connection, first.target), status, number)


def _is_run(ended: Sequence[tuple[Row, Status]]) -> bool:
    """Return whether rows have all the numbers from the first to the last, one target and one status.

    No row of another process has a number between; rows with a given id are looked at one by one.
    """
    first, status = ended[0]
    target = first.target
    return [row.seq for row, _ in ended] == [*range(first.seq, first.seq + len(ended))] and not [
        row for row, its in ended if row.given_id or row.target != target or its != status
    ]


def in_parts(changes: Changes) -> Iterator[Changes]:
    """Yield changes a few at a time, removals first: they free room."""
    for at in range(0, len(changes.ended), _ROWS_WHILE_FULL):
        yield Changes(ended=changes.ended[at : at + _ROWS_WHILE_FULL])
    for letter in changes.dead:
        yield Changes(dead=[letter])
    if changes.progress or changes.started or changes.cursors:
        yield Changes(progress=changes.progress, started=changes.started, cursors=changes.cursors)
