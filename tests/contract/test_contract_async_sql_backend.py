"""Contract tests of ``AsyncSqlBackend`` on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import test_contract_sql_backend as blocking


class TestAsyncSqliteFileBackend(blocking.TestSqliteFileBackend):
    """aiosqlite, a file."""

    for_asyncio = True


class TestAsyncSqliteMemoryBackend(blocking.TestSqliteMemoryBackend):
    """aiosqlite, in memory."""

    for_asyncio = True


class TestAsyncPostgresBackend(blocking.TestPostgresBackend):
    """psycopg's connections for asyncio."""

    for_asyncio = True


class TestAsyncMariaDbBackend(blocking.TestMariaDbBackend):
    """asyncmy."""

    for_asyncio = True
