"""A journal in a SQLite file: write-ahead log, synced at each commit."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from rambla_py.outbox.digests import digest_of
from rambla_py.outbox.errors import DuplicateIdError, OutboxError, OutboxFullError
from rambla_py.outbox.journal import Acceptance, Account, Changes, Share, Totals
from rambla_py.outbox.rows import Row
from rambla_py.outbox.sqlite.connection import JournalFile, file_errors
from rambla_py.outbox.sqlite.errors import is_full
from rambla_py.outbox.sqlite.files import Reserve
from rambla_py.outbox.sqlite.owners import Owners
from rambla_py.outbox.sqlite.statements import add_counts, bury, insert, read_rows
from rambla_py.outcome import Status

__all__ = ["SqliteJournal"]

T = TypeVar("T")

_MIB = 1024 * 1024
_ROWS_WHILE_FULL = 8

_DELETE = "DELETE FROM rambla_message WHERE seq IN (SELECT value FROM json_each(?)) RETURNING seq"
_START = "UPDATE rambla_message SET started = 1 WHERE seq IN (SELECT value FROM json_each(?))"
_SEEN = "SELECT digest, status FROM rambla_seen WHERE target = ? AND id = ? AND (until IS NULL OR until > ?)"
_SEE = "INSERT OR REPLACE INTO rambla_seen (target, id, digest, status, until) VALUES (?, ?, ?, NULL, NULL)"
_KEPT = """
SELECT coalesce(sum(CASE name WHEN 'accepted' THEN count ELSE -count END), 0) FROM rambla_account
WHERE name NOT IN ('replayed', 'duplicates')
"""
_HANDED = """
INSERT INTO rambla_handed (owner, target, upto) VALUES (?, ?, ?)
ON CONFLICT (owner, target) DO UPDATE SET upto = excluded.upto
"""


class SqliteJournal:
    """Stores the rows of an outbox in the SQLite file ``path``, which processes of one machine may share.

    A commit is on the disk before ``write`` returns. ``max_rows`` and ``max_bytes`` bound what is accepted,
    not what is removed.
    """

    polls = False

    def __init__(
        self,
        path: Path,
        *,
        dedup_window_s: float = 86_400.0,
        max_bytes: int | None = None,
        max_rows: int | None = None,
        reserve_bytes: int = 4 * _MIB,
        allow_network_filesystem: bool = False,
        busy_timeout_s: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.name = str(path)
        self.wake: Callable[[], None] = _notice_nothing
        self._dedup_window_s, self._max_bytes, self._max_rows = dedup_window_s, max_bytes, max_rows
        self._clock = clock
        self._owners = Owners(path)
        self._reserve = Reserve(path, reserve_bytes)
        self._file = JournalFile(
            path,
            reserve=self._reserve,
            busy_timeout_s=busy_timeout_s,
            allow_network=allow_network_filesystem,
        )
        self.own = 0

    # -- life -----------------------------------------------------------------------------------------

    def open(self, *, delivers: bool) -> None:
        """Connect, make or migrate the tables; with ``delivers``, become an owner."""
        self._despite_full(self._file.check)
        if delivers:
            self._despite_full(self._become_owner)

    def _become_owner(self) -> None:
        number = None
        try:
            with self._file.writing() as connection:
                number = connection.execute(
                    "INSERT INTO rambla_owner (started) VALUES (?)", (self._clock(),)
                ).lastrowid
                assert number is not None
                # Locked before others can see the number, and adopt it.
                with file_errors(self.name):
                    locked = self._owners.lock(number)
                if not locked:
                    raise OutboxError(self.name, f"the lock of owner {number} is taken")
        except BaseException:
            if number is not None:
                self._owners.unlock(number, remove=True)
            raise
        self.own = number

    def _despite_full(self, act: Callable[[], T]) -> T:
        """Act, and once more in the room of the reserve if the disk is full."""
        try:
            return act()
        except OutboxFullError as error:
            if not (is_full(error) and self._reserve.give_up()):
                raise
        return act()

    def close(self) -> None:
        """Let go of the owners, and disconnect."""
        mine = list(self._owners.mine)
        empty: list[int] = []
        try:
            if mine:
                with self._file.writing() as connection:
                    empty = [one for one in mine if one and not _has_rows(connection, one)]
                    numbers, gone = [(one,) for one in mine], [(one,) for one in empty]
                    connection.executemany("UPDATE rambla_owner SET closed = 1 WHERE number = ?", numbers)
                    connection.executemany("DELETE FROM rambla_owner WHERE number = ?", gone)
                    connection.executemany("DELETE FROM rambla_handed WHERE owner = ?", gone)
        finally:
            for number in mine:
                self._owners.unlock(number, remove=number in empty)
            self._file.close()

    # -- writing --------------------------------------------------------------------------------------

    def write(self, acceptances: Sequence[Acceptance], changes: Changes) -> None:
        """Store new rows, and apply changes, in one transaction."""
        try:
            with self._file.writing() as connection:
                self._apply(connection, changes)
                self._accept(connection, acceptances)
        except OutboxFullError as error:
            if not is_full(error):
                raise
            self._write_while_full(changes)
            for one in acceptances:
                one.error = error
        if self._reserve.given_up:
            self._reserve.make()

    def spill(self, rows: Sequence[Row]) -> bool:
        """Do nothing: spilled rows are in their owner's share."""
        return False

    def _write_while_full(self, changes: Changes) -> None:
        """Apply changes on a full disk: a few at a time, each in the room that the last one freed."""
        self._reserve.give_up()
        for part in _in_parts(changes):
            with self._file.writing() as connection:
                self._apply(connection, part)
            with self._file.using() as connection, suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._reserve.make()

    def _accept(self, connection: sqlite3.Connection, acceptances: Sequence[Acceptance]) -> None:
        if not acceptances:
            return
        self._check_room(connection)
        found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'rambla_message'").fetchone()
        seq: int = 0 if found is None else found[0]
        values: list[tuple[Row, int]] = []
        accepted: Counter[int] = Counter()
        for one in acceptances:
            try:
                self._set_duplicates_aside(connection, one)
            except DuplicateIdError as error:
                one.error = error
                continue
            for row in one.rows:
                seq += 1
                row.seq, row.share = seq, self.own
                target = self._file.target(connection, row.target)
                accepted[target] += 1
                values.append((row, target))
        insert(connection, values)
        add_counts(connection, {(target, "accepted"): number for target, number in accepted.items()})

    def _set_duplicates_aside(self, connection: sqlite3.Connection, one: Acceptance) -> None:
        """Remove the rows that are stored already; raises ``DuplicateIdError``, with nothing written."""
        given = [row for row in one.rows if row.given_id]
        if not given:
            return
        now, known = self._clock(), []
        new: dict[tuple[int, str], bytes] = {}
        for row in given:
            place, digest = (self._file.target(connection, row.target), row.id), digest_of(row)
            found = connection.execute(_SEEN, (*place, now)).fetchone()
            if found is None and place in new:
                found = (new[place], None)
            if found is None:
                new[place] = digest
            elif found[0] != digest:
                raise DuplicateIdError(row.target, row.id)
            else:
                known.append((row, found[1]))
        connection.executemany(_SEE, [(*place, digest) for place, digest in new.items()])
        add_counts(
            connection, Counter((self._file.target(connection, row.target), "duplicates") for row, _ in known)
        )
        one.duplicates = known
        one.rows = [row for row in one.rows if not any(row is other for other, _ in known)]

    def _apply(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Apply changes; those that were applied before change nothing, and count nothing."""
        if changes.progress:
            connection.executemany(
                "UPDATE rambla_message SET progress = ?, due = ?, wait_s = ? WHERE seq = ?",
                [(*values, seq) for seq, values in changes.progress.items()],
            )
        if changes.started:
            connection.execute(_START, (json.dumps(changes.started),))
        for (share, name), upto in changes.cursors.items():
            connection.execute(_HANDED, (share, self._file.target(connection, name), upto))
        for letter in changes.dead:
            bury(connection, letter)
        if changes.ended or changes.dead:
            self._remove(connection, changes)

    def _remove(self, connection: sqlite3.Connection, changes: Changes) -> None:
        """Delete rows that have ended, and count those that were still there."""
        gone: dict[int, tuple[Row, Status]] = {row.seq: (row, status) for row, status in changes.ended}
        gone |= {letter.row.seq: (letter.row, "fatal") for letter in changes.dead}
        dead = {letter.row.seq for letter in changes.dead}
        counts: Counter[tuple[int, str]] = Counter()
        seen: list[tuple[Any, ...]] = []
        until = self._clock() + self._dedup_window_s
        for (seq,) in connection.execute(_DELETE, (json.dumps(list(gone)),)).fetchall():
            row, status = gone[seq]
            target = self._file.target(connection, row.target)
            counts[target, status] += 1
            if row.given_id and seq not in dead:
                seen.append((status, until, target, row.id))
        if seen:
            connection.executemany(
                "UPDATE rambla_seen SET status = ?, until = ? WHERE target = ? AND id = ?", seen
            )
        add_counts(connection, counts)

    def _check_room(self, connection: sqlite3.Connection) -> None:
        if self._max_bytes is not None:
            size = connection.execute("PRAGMA page_size").fetchone()[0]
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
            if (pages - free) * size >= self._max_bytes:
                raise OutboxFullError(self.name, f"it holds max_bytes = {self._max_bytes}")
        if self._max_rows is not None:
            (rows,) = connection.execute(_KEPT).fetchone()
            if rows >= self._max_rows:
                raise OutboxFullError(self.name, f"it holds max_rows = {self._max_rows}")

    # -- shares ---------------------------------------------------------------------------------------

    def claim(self) -> list[Share]:
        """Take over the owners whose process has ended, and owner 0, which has none."""
        return self._despite_full(self._claim)

    def _claim(self) -> list[Share]:
        with self._file.using() as connection:
            known = [
                number for (number,) in connection.execute("SELECT number FROM rambla_owner ORDER BY number")
            ]
        taken: list[int] = []
        try:
            with file_errors(self.name):
                taken.extend(number for number in known if self._owners.lock(number))
            if not taken:
                return []
            with self._file.writing() as connection:
                shares = [self._taken(connection, number) for number in taken]
        except BaseException:
            for number in taken:  # else no process would deliver their rows
                self._owners.unlock(number)
            raise
        for number, share in zip(taken, shares, strict=True):
            if share is None:
                self._owners.unlock(number, remove=True)
        return [share for share in shares if share is not None]

    def lost(self) -> list[Row]:
        """Return nothing: the lock of an owner ends with its process only."""
        return []

    def elsewhere(self, seqs: Collection[int]) -> set[int]:
        """Return nothing: an owner keeps its rows until its process ends."""
        return set()

    def release(self, share: int) -> bool:
        """Let go of an adopted owner if it has no rows any more; return whether it has none."""
        with self._file.writing() as connection:
            if _has_rows(connection, share):
                return False
            connection.execute("DELETE FROM rambla_owner WHERE number = ?", (share,))
            connection.execute("DELETE FROM rambla_handed WHERE owner = ?", (share,))
        self._owners.unlock(share, remove=True)
        return True

    def _taken(self, connection: sqlite3.Connection, number: int) -> Share | None:
        """Record that the process of an owner has died; return the owner as a share of this process.

        Return None for one that has ended without rows since its number was read.
        """
        found = connection.execute("SELECT closed FROM rambla_owner WHERE number = ?", (number,)).fetchone()
        if found is None:
            return None
        (closed,) = found
        connection.execute("UPDATE rambla_owner SET closed = 0 WHERE number = ?", (number,))
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
            name = connection.execute(
                "SELECT name FROM rambla_target WHERE number = ?", (target,)
            ).fetchone()[0]
            deaths[name] = tuple(before)
        return Share(number, deaths=deaths)

    # -- reading --------------------------------------------------------------------------------------

    def read(self, share: int, target: str, after: int, limit: int) -> list[Row]:
        """Return the rows of an owner for a target, in order, from the one after ``after``."""
        with self._file.using() as connection:
            return read_rows(connection, share, target, after, limit)

    def counts(self, share: int) -> dict[str, tuple[int, int]]:
        """Return, by target, how many rows an owner has and the number of the last one."""
        query = """
            SELECT target.name, count(*), max(seq)
            FROM rambla_message AS message JOIN rambla_target AS target ON target.number = message.target
            WHERE owner = ? GROUP BY message.target
        """
        with self._file.using() as connection:
            return {name: (count, last) for name, count, last in connection.execute(query, (share,))}

    def accounts(self) -> dict[str, Account]:
        """Return the account of every target."""
        return self.ledger()[0]

    def ledger(self) -> tuple[dict[str, Account], int]:
        """Return the account of every target, and how many rows were ever stored, as SQLite counts them."""
        with self._file.using() as connection:
            connection.execute("BEGIN")  # all of it as it was at one moment
            try:
                names = dict(connection.execute("SELECT number, name FROM rambla_target").fetchall())
                found = {number: Account() for number in names}
                for target, name, count in connection.execute(
                    "SELECT target, name, count FROM rambla_account"
                ):
                    setattr(found[target], name, count)
                for table, name in (("rambla_message", "pending"), ("rambla_dead", "dead")):
                    query = f"SELECT target, count(*) FROM {table} GROUP BY target"
                    for target, count in connection.execute(query):
                        setattr(found[target], name, count)
                query = "SELECT seq FROM sqlite_sequence WHERE name = 'rambla_message'"
                sequence = connection.execute(query).fetchone()
            finally:
                connection.execute("COMMIT")
        accounts = {names[number]: account for number, account in found.items()}
        return accounts, 0 if sequence is None else sequence[0]

    def log_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        return _size(self.path.with_name(f"{self.path.name}-wal"))

    def totals(self) -> Totals:
        """Return what the journal holds."""
        with self._file.using() as connection:
            rows, oldest = connection.execute("SELECT count(*), min(accepted) FROM rambla_message").fetchone()
            (dead,) = connection.execute("SELECT count(*) FROM rambla_dead").fetchone()
            owners = connection.execute("SELECT number FROM rambla_owner WHERE number > 0").fetchall()
        alive = [number for (number,) in owners if self._owners.is_alive(number)]
        adopted = [number for number in self._owners.mine if number not in (0, self.own)]
        return Totals(
            rows=rows,
            dead=dead,
            oldest=oldest,
            file_bytes=_size(self.path),
            log_bytes=self.log_bytes(),
            owners_alive=len(alive),
            owners_adopted=len(adopted),
        )


def _notice_nothing() -> None:
    """Do nothing: rows of other processes are found by looking."""


def _has_rows(connection: sqlite3.Connection, owner: int) -> bool:
    query = """
        SELECT 1 FROM rambla_target
        WHERE EXISTS (SELECT 1 FROM rambla_message WHERE target = number AND owner = ?)
    """
    return connection.execute(query, (owner,)).fetchone() is not None


def _in_parts(changes: Changes) -> Iterator[Changes]:
    """Yield the changes a few at a time, removals first: they free room."""
    for at in range(0, len(changes.ended), _ROWS_WHILE_FULL):
        yield Changes(ended=changes.ended[at : at + _ROWS_WHILE_FULL])
    for letter in changes.dead:
        yield Changes(dead=[letter])
    if changes.progress or changes.started or changes.cursors:
        yield Changes(progress=changes.progress, started=changes.started, cursors=changes.cursors)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
