"""Tests of the private parts of PyMySQL that rambla_py uses; an update that moves one fails here by name."""

from __future__ import annotations

from importlib.metadata import version

import pymysql
import pytest

from rambla_py.sql.dialects.pymysql_private import abandon_rows, socket_number


def test_pymysql_is_a_version_that_was_read() -> None:
    """The private parts were read in PyMySQL 1.1 and 1.2."""
    assert version("PyMySQL").startswith(("1.1.", "1.2."))


def test_a_connection_has_its_socket() -> None:
    """``Connection._sock`` is there, and None while the connection is closed."""
    connection = pymysql.Connection(defer_connect=True)
    assert connection._sock is None
    with pytest.raises(AttributeError, match="fileno"):
        socket_number(connection)


def test_an_unbuffered_cursor_forgets_its_rows() -> None:
    """``SSCursor._result`` with ``unbuffered_active`` and ``connection`` is there."""
    connection = pymysql.Connection(defer_connect=True)
    cursor = pymysql.cursors.SSCursor(connection)
    cursor._result = pymysql.connections.MySQLResult(connection)
    cursor._result.unbuffered_active = True
    abandon_rows(cursor)
    assert cursor._result.unbuffered_active is False
