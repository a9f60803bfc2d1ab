"""A journal in a SQLite file: write-ahead log, synced at each commit."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from rambla_py.outbox.errors import OutboxError, OutboxFullError
from rambla_py.outbox.journal import Acceptance, Account, Changes, Share, Totals
from rambla_py.outbox.room import CommitRoom, needs_no_room
from rambla_py.outbox.rows import Row
from rambla_py.outbox.sqlite.connection import JournalFile, file_errors
from rambla_py.outbox.sqlite.errors import is_full
from rambla_py.outbox.sqlite.files import Reserve
from rambla_py.outbox.sqlite.owners import Owners
from rambla_py.outbox.sqlite.room import Room
from rambla_py.outbox.sqlite.shares import begin_owner, close_owners, end_owner, owners, taken
from rambla_py.outbox.sqlite.statements import read_rows
from rambla_py.outbox.sqlite.transaction import JournalTransaction, in_parts

__all__ = ["SqliteJournal"]

T = TypeVar("T")

_MIB = 1024 * 1024


class SqliteJournal:
    """Stores the rows of an outbox in the SQLite file ``path``, which processes of one machine may share.

    A commit is on the disk before ``write`` returns. ``max_rows`` and ``max_bytes`` bound what is accepted,
    not what is removed.
    """

    polls = False
    finds_duplicates = True

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
        self._dedup_window_s, self._clock = dedup_window_s, clock
        self._room = Room(self.name, max_bytes=max_bytes, max_rows=max_rows)
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
                number = begin_owner(connection, self._clock())
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
                    empty = close_owners(connection, mine)
        finally:
            for number in mine:
                self._owners.unlock(number, remove=number in empty)
            self._file.close()

    # -- writing --------------------------------------------------------------------------------------

    def write(self, acceptances: Sequence[Acceptance], changes: Changes) -> None:
        """Store new rows, and apply changes, in one transaction."""
        try:
            with self._file.writing() as connection:
                transaction = self._transaction(connection)
                transaction.apply(changes)
                if acceptances:
                    room = self._room.for_commit(connection, acceptances)
                    transaction.accept(acceptances, room, self.own, self._owners.mine)
                transaction.finish()
        except OutboxFullError as error:
            if not is_full(error):
                raise
            for one in acceptances:
                one.error = error
            self._write_while_full(changes, () if error.applied == "unknown" else acceptances)
        if self._reserve.given_up:
            self._reserve.make()

    def spill(self, rows: Sequence[Row]) -> bool:
        """Do nothing: spilled rows are in their owner's share."""
        return False

    def _write_while_full(self, changes: Changes, acceptances: Sequence[Acceptance]) -> None:
        """Apply changes on a full disk: a few at a time, each in the room that the last one freed.

        Then store the acceptances that need no room: their rows replace others, or are stored already.
        """
        self._reserve.give_up()
        for part in in_parts(changes):
            with self._file.writing() as connection:
                transaction = self._transaction(connection)
                transaction.apply(part)
                transaction.finish()
            self._shorten_log()
        for one in acceptances:
            one.rows = [*(row for row, _ in one.duplicates), *one.rows]
            one.duplicates = []
            if needs_no_room(one):
                self._accept_while_full(one)
        self._reserve.make()

    def _accept_while_full(self, acceptance: Acceptance) -> None:
        full, acceptance.error = acceptance.error, None
        room = CommitRoom(self.name, full="the disk is full")
        try:
            with self._file.writing() as connection:
                transaction = self._transaction(connection)
                transaction.accept([acceptance], room, self.own, self._owners.mine)
                transaction.finish()
        except OutboxFullError as error:
            acceptance.error = error
        if isinstance(acceptance.error, OutboxFullError):
            acceptance.error = full
        self._shorten_log()

    def _shorten_log(self) -> None:
        with self._file.using() as connection, suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _transaction(self, connection: sqlite3.Connection) -> JournalTransaction:
        return JournalTransaction(
            connection, self._file.target, now=self._clock(), dedup_window_s=self._dedup_window_s
        )

    # -- shares ---------------------------------------------------------------------------------------

    def claim(self) -> list[Share]:
        """Take over the owners whose process has ended, and owner 0, which has none."""
        return self._despite_full(self._claim)

    def _claim(self) -> list[Share]:
        with self._file.using() as connection:
            known = list(owners(connection))
        locked: list[int] = []
        try:
            with file_errors(self.name):
                locked.extend(number for number in known if self._owners.lock(number))
            if not locked:
                return []
            with self._file.writing() as connection:
                shares = [taken(connection, number, self.own) for number in locked]
        except BaseException:
            for number in locked:  # else no process would deliver their rows
                self._owners.unlock(number)
            raise
        for number, share in zip(locked, shares, strict=True):
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
            if not end_owner(connection, share):
                return False
        self._owners.unlock(share, remove=True)
        return True

    # -- reading --------------------------------------------------------------------------------------

    def read(self, share: int, target: str, after: int, limit: int) -> list[Row]:
        """Return the rows of an owner for a target, in order, from the one after ``after``."""
        with self._file.using() as connection:
            return read_rows(connection, share, target, after, limit)

    def look_again(self) -> None:
        """Do nothing: no row is committed after one with a higher number."""

    def counts(self, share: int) -> dict[str, tuple[int, int]]:
        """Return, by target, how many rows an owner has and the number of the last one."""
        query = """
            SELECT target.name, count(*), max(seq)
            FROM rambla_message AS message JOIN rambla_target AS target ON target.number = message.target
            WHERE owner = ? GROUP BY message.target
        """
        with self._file.using() as connection:
            return {name: (count, last) for name, count, last in connection.execute(query, (share,))}

    def others(self, targets: Collection[str]) -> list[str]:
        """Return what other targets owner 0 has rows for, if this process has adopted it."""
        if 0 not in self._owners.mine:
            return []
        query = """
            SELECT name FROM rambla_target AS target
            WHERE EXISTS (SELECT 1 FROM rambla_message WHERE target = target.number AND owner = 0)
        """
        with self._file.using() as connection:
            return [name for (name,) in connection.execute(query) if name not in targets]

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
            known = owners(connection)
        held = [number for number in known if number and self._owners.is_alive(number)]
        adopted = [number for number in held if known[number] is not None]
        return Totals(
            rows=rows,
            dead=dead,
            oldest=oldest,
            file_bytes=_size(self.path),
            log_bytes=self.log_bytes(),
            owners_alive=len(held) - len(adopted),
            owners_adopted=len(adopted),
        )


def _notice_nothing() -> None:
    """Do nothing: rows of other processes are found by looking."""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
