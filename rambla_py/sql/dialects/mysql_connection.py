"""Connection of PyMySQL that ends its session in the server after a time-out."""

from __future__ import annotations

import decimal
from typing import Any, NamedTuple

import pymysql

__all__ = ["MysqlConnection", "MysqlLockWaits", "MysqlTimeoutError"]

_MOST_DIGITS = 1_000
_CANCEL_S = 2.0
_SERVER_LOST = 2013
_UNKNOWN_THREAD = 1094


class MysqlTimeoutError(pymysql.err.OperationalError):  # type: ignore[misc]  # PyMySQL has no types
    """MySQL did not finish a statement in time, and has ended the session: nothing of it was applied."""


class MysqlLockWaits(NamedTuple):
    """How long a session waits for locks on rows, and on whole tables, in seconds."""

    row_s: int
    table_s: int

    def at_most(self, longest_s: int) -> MysqlLockWaits:
        """Return waits that are no longer than that.

        >>> MysqlLockWaits(50, 86_400).at_most(1)
        MysqlLockWaits(row_s=1, table_s=1)
        """
        return MysqlLockWaits(min(self.row_s, longest_s), min(self.table_s, longest_s))


def _decimal_literal(value: decimal.Decimal, mapping: object) -> str:
    """Return a number as SQL; PyMySQL writes a billion zeros for 1E+1000000000."""
    return format(value, "f") if abs(value.adjusted()) < _MOST_DIGITS else str(value)


class MysqlConnection(pymysql.Connection):  # type: ignore[misc]  # PyMySQL has no types
    """A connection whose session is ended in the server after a time-out, so that nothing of it is applied.

    Raises ``MysqlTimeoutError`` if the server confirms that; a COMMIT may have been applied before.
    ``first_lock_waits`` are those that the session began with, once they were looked at.
    """

    first_lock_waits: MysqlLockWaits | None = None

    def __init__(self, **arguments: Any) -> None:
        self._arguments = arguments
        super().__init__(**arguments)
        self.encoders[decimal.Decimal] = _decimal_literal

    def query(self, sql: Any, unbuffered: bool = False) -> int:
        """Run a statement; end the session after a time-out."""
        try:
            return int(super().query(sql, unbuffered))
        except pymysql.err.OperationalError as error:
            timed_out = error.args[0] == _SERVER_LOST and isinstance(error.__context__, TimeoutError)
            if not (timed_out and self.end_session()) or sql in ("COMMIT", b"COMMIT"):
                raise
            text = (
                f"no answer within read_timeout_s = {self._arguments['read_timeout']:g}; "
                "the server has cancelled the statement"
            )
            raise MysqlTimeoutError(_SERVER_LOST, text) from error

    @property
    def is_mariadb(self) -> bool:
        """Whether the server is MariaDB."""
        return "mariadb" in self.get_server_info().lower()

    def lock_waits(self) -> MysqlLockWaits:
        """Return how long the session waits for locks."""
        with self.cursor() as cursor:
            cursor.execute("SELECT @@SESSION.innodb_lock_wait_timeout, @@SESSION.lock_wait_timeout")
            return MysqlLockWaits(*cursor.fetchone())

    def set_lock_waits(self, waits: MysqlLockWaits) -> None:
        """Let the session wait for locks for so long."""
        with self.cursor() as cursor:
            cursor.execute(
                f"SET SESSION innodb_lock_wait_timeout = {waits.row_s}, lock_wait_timeout = {waits.table_s}"
            )

    def end_session(self) -> bool:
        """End this connection's session over another connection; return whether that was done."""
        limits = {"connect_timeout": _CANCEL_S, "read_timeout": _CANCEL_S, "write_timeout": _CANCEL_S}
        try:
            with pymysql.Connection(**{**self._arguments, **limits}) as other:
                other.query(f"KILL {self.thread_id()}")
        except pymysql.err.MySQLError as error:
            return bool(error.args and error.args[0] == _UNKNOWN_THREAD)  # it has ended
        return True
