"""The live database connection of a worker."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rambla_py._internal.fork_lock import fork_lock
from rambla_py.handlers._tables.options import TablePlan
from rambla_py.handlers.sql.batch import write_batch
from rambla_py.handlers.sql.encode import RowMaker
from rambla_py.handlers.sql.lock_waits import LockWaits
from rambla_py.handlers.sql.open_table import OpenTable
from rambla_py.handlers.sql.parts import Part, PartRow, PartsMaker, PartsWriter
from rambla_py.handlers.sql.row_by_row import write_each
from rambla_py.handlers.sql.settings import table_plans
from rambla_py.handlers.sql.table import MissingError, Table, look_at
from rambla_py.sql.bulk import BulkWriter, Row
from rambla_py.sql.database import Database
from rambla_py.sql.errors import (
    SqlAccessError,
    SqlConnectionLostError,
    SqlDataError,
    SqlError,
    SqlStatementError,
    SqlTooLargeError,
    SqlUnavailableError,
    SqlUnknownOutcomeError,
)

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handlers.sql.settings import SqlOptions

__all__ = ["SqlConnection"]

_OF_THE_PARENT: list[Any] = []
"""Connections that a forked child never closes: that would close them for the parent."""


class SqlConnection:
    """A connection that writes the rows of one channel; ``close`` may be called from any thread.

    ``rows`` makes the rows, ``statements`` has those of each table, ``waits`` bounds waits for locks.
    ``lost`` is the reason why the connection is unusable, or None. With ``dry_run`` nothing is created, and
    ``missing`` is what would be. Raises ``SqlAccessError`` if a table cannot be written as configured.
    """

    def __init__(
        self, database: Database, options: SqlOptions, channel: str, *, dry_run: bool = False
    ) -> None:
        self.database = database
        self.lost: SqlError | None = None
        self.missing: str | None = None
        self.raw: Any = None
        self._options, self._plans = options, table_plans(options, channel)
        self._owner = os.getpid()
        self._closed = self._left = False
        self._dialect = database.dialect
        self._busy: threading.Lock = (
            threading.Lock() if self._dialect.crosses_forks else fork_lock(self._leave)
        )
        if self._dialect.is_missing and not options.create_table:
            raise SqlConnectionLostError(
                f"cannot connect to {database.where}: there is no such file; "
                "create it, or set create_table = true"
            )
        if dry_run and self._dialect.is_missing:
            self.missing = f"table {self._plans[0].name!r}, and the file of {database.where}"
            return
        with self._busy:
            self._open(dry_run=dry_run)

    def __repr__(self) -> str:
        return f"<SqlConnection {self.database.where}{', lost' if self.lost else ''}>"

    def resume(self) -> None:
        """Open it again if a fork has closed it; raises ``SqlConnectionLostError`` and ``SqlAccessError``."""
        if self._left:
            with self._busy:
                if self._left and not self._closed:
                    self._open(dry_run=False)
                    self._left = False

    def write(self, rows: Sequence[Row], *, each: bool = False) -> dict[int, SqlError]:
        """Write rows in one transaction; see ``write_batch``, and with ``each`` ``write_each``."""
        with self._busy:
            if self.lost is not None:
                raise self.lost
            try:
                if self.waits.lifted:
                    self.waits.restore()
                return self._write(rows, each)
            except (SqlConnectionLostError, SqlUnknownOutcomeError) as error:
                self.lost = SqlConnectionLostError(str(error))
                raise
            except SqlUnavailableError as error:
                if error.ends_session:
                    self.lost = SqlConnectionLostError(str(error))
                raise
            finally:
                if self._closed:
                    self._end()

    def recheck(self) -> SqlError | None:
        """Return an error, and be lost, if the table was changed since the connect.

        Called when a value was refused for the columns as they were then.
        """
        with self._busy:
            if self.lost is None:
                self.lost = self._changed()
            return self.lost

    def ping(self) -> None:
        """Raise ``SqlConnectionLostError`` if the server does not answer."""
        with self._busy:
            if self.lost is not None:
                raise self.lost
            if self.raw is None:
                return
            try:
                self._dialect.ping(self.raw)
            except Exception as error:
                self.lost = SqlConnectionLostError(str(self.database.map_error(error)))
                raise self.lost from error

    def close(self) -> None:
        """Close. A thread that waits for the server is woken, its statement is cancelled, and it closes."""
        self._closed = True
        if os.getpid() != self._owner:
            _OF_THE_PARENT.append(self.raw)
            return
        if self._busy.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._busy.release()
        else:
            self._dialect.interrupt(self.raw)

    def _leave(self) -> None:
        """Close before a fork, in the parent: not even an idle connection of SQLite may cross one."""
        if self.raw is not None and not self._left:
            self._left = True
            with suppress(Exception):
                self.raw.close()

    def _open(self, *, dry_run: bool) -> None:
        self.raw = self.database.connect(autocommit=True)
        if not (self._options.copy and any(plan.unique for plan in self._plans)):
            # Nothing is gained by prepared statements, and a transaction pooler would lose them.
            self._dialect.prepare_nothing(self.raw)
        try:
            self._prepare(dry_run=dry_run)
        except MissingError as error:
            if not (dry_run and getattr(self._options, error.option)):
                self._end()
                raise SqlAccessError(str(error)) from error
            self.missing = error.what
        except SqlStatementError as error:
            self._end()
            raise SqlAccessError(str(error)) from error
        except BaseException:
            self._end()
            raise

    def _write(self, rows: Sequence[Row], each: bool) -> dict[int, SqlError]:
        savepoints = self._dialect.has_savepoints
        try:
            if each:
                refused = write_each(self.writer, rows, self.waits, savepoints=savepoints)
            else:
                refused = write_batch(self.writer, rows, savepoints=savepoints, waits=self.waits)
        except SqlStatementError as error:
            if (changed := self._changed()) is not None:
                raise changed from error
            raise
        if not refused:
            return refused
        if any(isinstance(error, SqlDataError) for error in refused.values()):
            # The rows were made for the columns as they were at connect.
            self.lost = self._changed()
        if self.lost is not None:
            return dict.fromkeys(refused, self.lost)
        return {at: self._sized(error, rows[at]) for at, error in refused.items()}

    def _changed(self) -> SqlConnectionLostError | None:
        """Return an error if a table was changed or removed since the connect."""
        try:
            for plan, seen in self._seen:
                if self._look(plan, dry_run=True).kinds != seen.kinds:
                    return SqlConnectionLostError(f"the table {plan.name!r} was changed")
        except SqlStatementError as gone:
            return SqlConnectionLostError(str(gone))
        return None

    def _sized(self, error: SqlError, row: Row) -> SqlError:
        """Return the error of a refused row; one that is too large gets both sizes."""
        if not isinstance(error, SqlTooLargeError) or (error.size and error.limit):
            return error
        values = row.row if isinstance(row, PartRow) else row
        size = error.size or sum(len(value) for value in values if isinstance(value, str | bytes))
        limit = self._dialect.row_limit(self.raw) or error.limit
        text = f"{error}; the row has {size} bytes" + (f", and the limit is {limit}" if limit else "")
        sized = SqlTooLargeError(text, size=size, limit=limit)
        sized.code, sized.__cause__ = error.code, error.__cause__
        return sized

    def _look(self, plan: TablePlan, *, dry_run: bool) -> Table:
        options = self._options
        return look_at(
            self.database,
            self.raw,
            plan,
            create=options.create_table and not dry_run,
            add=options.add_columns and not dry_run,
            may_add=options.add_columns,
        )

    def _end(self) -> None:
        self.lost = self.lost or SqlConnectionLostError(f"the connection to {self.database.where} is closed")
        with suppress(Exception):  # the connection may be lost or closed
            self.raw.close()

    def _prepare(self, *, dry_run: bool) -> None:
        if self._options.wal and not dry_run:
            self._dialect.write_ahead(self.raw)
        tables = {plan.name: self._opened(plan, dry_run) for plan in self._plans}
        for table in tables.values():
            table.check_unique()
        statements = {name: table.statements for name, table in tables.items()}
        self.statements = [*statements.values()]
        self.waits = LockWaits(
            self._dialect, self.raw, statements, read_timeout_s=self.database.options.read_timeout_s
        )
        self._seen = [(table.plan, table.seen) for table in tables.values()]
        first = tables[self._plans[0].name]
        self.rows: RowMaker | PartsMaker
        self.writer: BulkWriter
        if len(tables) == 1 and first.fixed is not None:
            self.rows, self.writer = first.fixed.maker, first.fixed.writer
            return

        def part_of(message: Delivery) -> Part:
            return tables[message.options.table or first.name].part_of(message)

        in_order = any(plan.unique for plan in self._plans)
        self.rows, self.writer = PartsMaker(part_of), PartsWriter(in_order=in_order)

    def _opened(self, plan: TablePlan, dry_run: bool) -> OpenTable:
        seen = self._look(plan, dry_run=dry_run)
        return OpenTable(self.raw, self._dialect, plan, seen, copy=self._options.copy)
