"""A copy of what can be read of a damaged SQLite journal."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from rambla_py._internal.private_files import make_private_file, make_private_folder
from rambla_py.outbox.errors import OutboxError
from rambla_py.outbox.sqlite.errors import journal_error
from rambla_py.outbox.sqlite.owners import Owners
from rambla_py.outbox.sqlite.tables import migrate

__all__ = ["Rescued", "rescue"]

_GROUP: Final = 200
_MESSAGE, _DEAD = "rambla_message", "rambla_dead"
_NUMBERED: Final = (_MESSAGE, _DEAD)
_KEYED: Final = ("rambla_seen", "rambla_account", "rambla_replayed")


class Rescued(msgspec.Struct, frozen=True):
    """What was copied: rows and dead letters, and how many of each could not be read.

    The numbers of those that could not be read are computed from the accounts of the journal; where these
    are damaged too (``exact`` is false), they are upper bounds.
    """

    rows: int
    rows_lost: int
    dead: int
    dead_lost: int
    exact: bool


def rescue(old: Path, new: Path) -> Rescued:
    """Copy every row and dead letter that can be read from the journal ``old`` to a new one, ``new``.

    ``old`` is not changed. Raises ``OutboxError``: if ``new`` exists, if a process uses ``old``, or if
    nothing of it can be read.
    """
    if not old.is_file():
        raise OutboxError(str(old), "there is no such file")
    if new.exists():
        raise OutboxError(str(new), "this file exists; name one that does not")
    _check_unused(old)
    with closing(_opened(old)) as source:
        made = False
        try:
            make_private_folder(new.parent)
            make_private_file(new)
            made = True
            with closing(sqlite3.connect(new, isolation_level=None)) as copy:
                return _Copy(source, copy, str(new)).run()
        except BaseException as error:
            if made:
                new.unlink(missing_ok=True)  # half of a copy may be taken for the whole
            if isinstance(error, sqlite3.Error):
                raise journal_error(str(new), error) from error
            raise


def _check_unused(old: Path) -> None:
    """Raise if a process delivers from a journal: it would deliver what is copied, too."""
    owners, folder = Owners(old), old.with_name(f"{old.name}-owners")
    with suppress(OSError):
        for file in folder.iterdir():
            if file.name.isdecimal() and owners.is_alive(int(file.name)):
                raise OutboxError(str(old), "a process is using it; stop it first")


def _opened(old: Path) -> sqlite3.Connection:
    """Open a journal for reading only, so that not even its log is moved into it."""
    try:
        connection = sqlite3.connect(f"{old.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'rambla_message'").fetchone()
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise OutboxError(str(old), f"nothing of it can be read: {error}") from error
    return connection


class _Copy:
    """One copy of a journal to a new file, in one transaction."""

    def __init__(self, source: sqlite3.Connection, copy: sqlite3.Connection, name: str) -> None:
        self._source, self._copy, self._name = source, copy, name
        self._unread = dict.fromkeys(_NUMBERED, 0)
        self._copied = dict.fromkeys(_NUMBERED, 0)

    def run(self) -> Rescued:
        """Copy all that can be read."""
        self._copy.execute("PRAGMA journal_mode = WAL")
        self._copy.execute("PRAGMA synchronous = FULL")
        self._copy.execute("BEGIN IMMEDIATE")
        migrate(self._copy, self._name)
        whole = [self._copy_keyed(table) for table in ("rambla_target", *_KEYED)]
        last = self._last()
        for table in _NUMBERED:
            self._copy_numbered(table, last)
        self._name_targets()
        # The rows are those of owner 0, which every process may adopt: locks are not copied.
        self._copy.execute("UPDATE rambla_message SET owner = 0")
        self._copy.execute("DELETE FROM sqlite_sequence WHERE name = 'rambla_message'")
        self._copy.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('rambla_message', ?)", (last,))
        found = self._rescued(exact=all(whole))
        self._copy.execute("COMMIT")
        return found

    def _copy_keyed(self, table: str) -> bool:
        """Copy a table that has no numbers to step over; return whether all of it could be read."""
        columns = _columns(self._copy, table)
        try:
            for row in self._source.execute(f"SELECT {', '.join(columns)} FROM {table}"):
                with suppress(sqlite3.Error):
                    self._insert(table, columns, row)
        except sqlite3.Error:
            return False
        return True

    def _copy_numbered(self, table: str, last: int) -> None:
        columns = _columns(self._copy, table)
        for row in self._rows(table, columns, last):
            try:
                if row is None:
                    raise sqlite3.DatabaseError
                self._insert(table, columns, row)
            except sqlite3.Error:  # also a row with values of other types
                self._unread[table] += 1
            else:
                self._copied[table] += 1

    def _rows(self, table: str, columns: Sequence[str], last: int) -> Iterator[tuple[Any, ...] | None]:
        """Yield the rows in the order of their numbers; None for a number that cannot be read."""
        select, at, one_by_one = f"SELECT {', '.join(columns)} FROM {table} NOT INDEXED WHERE seq", 0, 0
        while at < last:
            if one_by_one:
                at, one_by_one = at + 1, one_by_one - 1
                try:
                    yield from self._source.execute(f"{select} = ?", (at,)).fetchall()
                except sqlite3.Error:
                    yield None
                continue
            try:
                rows = self._source.execute(f"{select} > ? ORDER BY seq LIMIT {_GROUP}", (at,)).fetchall()
            except sqlite3.Error:
                rows = None
            if rows is None or not _in_order(at, rows):
                one_by_one = _GROUP
            elif rows:
                yield from rows
                at = rows[-1][0]
            else:
                return

    def _last(self) -> int:
        """Return the highest number that a row can have."""
        with suppress(sqlite3.Error, TypeError):
            query = "SELECT seq FROM sqlite_sequence WHERE name = 'rambla_message'"
            return int(self._source.execute(query).fetchone()[0])
        numbers = [0]
        for table in _NUMBERED:
            with suppress(sqlite3.Error, TypeError):
                numbers.append(int(self._source.execute(f"SELECT max(seq) FROM {table}").fetchone()[0]))
        return max(numbers)

    def _name_targets(self) -> None:
        """Give targets whose names were lost others, so that their rows are not lost as well."""
        for table in _NUMBERED:
            found = f"SELECT DISTINCT target, 'lost.' || target FROM {table}"
            self._copy.execute(f"INSERT OR IGNORE INTO rambla_target (number, name) {found}")

    def _insert(self, table: str, columns: Sequence[str], row: Sequence[Any]) -> None:
        places = ", ".join("?" * len(columns))
        self._copy.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", row)

    def _rescued(self, *, exact: bool) -> Rescued:
        lost = self._unread[_MESSAGE]
        if exact:
            query = """
                SELECT coalesce(sum(CASE name WHEN 'accepted' THEN count ELSE -count END), 0)
                FROM rambla_account
                WHERE name NOT IN ('replayed', 'duplicates')
            """
            lost = max(0, self._copy.execute(query).fetchone()[0] - self._copied[_MESSAGE])
        return Rescued(
            rows=self._copied[_MESSAGE],
            rows_lost=lost,
            dead=self._copied[_DEAD],
            dead_lost=self._unread[_DEAD],
            exact=exact and not self._unread[_DEAD],
        )


def _in_order(at: int, rows: Sequence[tuple[Any, ...]]) -> bool:
    """Return whether rows have growing numbers, as those of a sound page have; the first column is theirs."""
    for row in rows:
        if row[0] <= at:
            return False
        at = row[0]
    return True


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
