"""The private parts of PyMySQL that rambla_py uses: a connection's socket, a cursor's unread rows."""

from __future__ import annotations

from typing import Any

import pymysql

__all__ = ["abandon_rows", "socket_number"]


def socket_number(connection: pymysql.Connection[object]) -> int:
    """Return the file descriptor of an open connection: shutting it down wakes a thread that reads it."""
    return int(connection._sock.fileno())


def abandon_rows(cursor: Any) -> None:
    """Let an unbuffered cursor forget its unread rows; its result would read them when it is collected."""
    result = cursor._result
    if result is not None:
        result.unbuffered_active = False
        result.connection = None
