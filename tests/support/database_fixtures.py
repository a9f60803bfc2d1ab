"""Fixtures of PostgreSQL and MariaDB, and URLs of SQLite files."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pymysql
import pytest
from server_fixtures import mend_used, require

from rambla_py.testing.databases import DatabaseServer, MariaDbServer, PostgresServer
from rambla_py.testing.servers import TlsFiles


@pytest.fixture(scope="session")
def postgres_server(tls_files: TlsFiles) -> Iterator[PostgresServer]:
    """The run's PostgreSQL, with TLS for who asks. A test may kill or pause it: it is mended."""
    require(PostgresServer)
    with PostgresServer(tls=tls_files) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server(tls_files: TlsFiles) -> Iterator[MariaDbServer]:
    """The run's MariaDB, with TLS for who asks, taking 2 MB at most. A test may kill or pause it."""
    require(MariaDbServer)
    with MariaDbServer(tls=tls_files, config=["--max-allowed-packet=2M"]) as server:
        yield server


@pytest.fixture(autouse=True)
def _mended_databases(request: pytest.FixtureRequest) -> Iterator[None]:
    """Mend after each test the databases that it may have broken."""
    yield
    mend_used(request, "postgres_server", "mariadb_server")


def client(server: DatabaseServer) -> psycopg.Connection | pymysql.Connection:
    """Return a connection of the plain driver, in autocommit, for a test's own look."""
    place = {"host": server.host, "port": server.port, "user": server.user, "password": server.password}
    if isinstance(server, PostgresServer):
        return psycopg.connect(**place, dbname=server.database, autocommit=True)
    return pymysql.connect(**place, database=server.database, autocommit=True)
