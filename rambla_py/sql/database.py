"""This module opens connections to a database that a URL describes: SQLite, PostgreSQL, MySQL, MariaDB."""

from __future__ import annotations

import math
import sqlite3
import ssl
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec
import psycopg
import pymysql
import sqlalchemy
from psycopg.waiting import Ready
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from rambla_py.errors import AccessError
from rambla_py.sql.errors import SqlAccessError
from rambla_py.sql.mapping import connect_error
from rambla_py.tls import CaFile, CertFile, KeyFile, Verify, client_context

__all__ = ["Database", "Kind", "SqlTls"]

Kind = Literal["sqlite", "postgresql", "mysql"]

_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}


class SqlTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How TLS is done; the system's authorities are trusted unless ``ca_file`` names others."""

    ca_file: CaFile = None
    cert_file: CertFile = None
    key_file: KeyFile = None
    verify: Verify = True


class Database:
    """A database by its URL, without a connection: ``connect`` opens one of the driver's own.

    >>> Database("postgresql://app:hunter2@db.internal/shop").where
    'postgresql at db.internal:5432/shop'
    """

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 10.0,
        tls: SqlTls | None = None,
    ) -> None:
        self.url = _parsed(url)
        self.connect_timeout_s, self.read_timeout_s, self.tls = connect_timeout_s, read_timeout_s, tls
        name = self.url.get_backend_name()
        self.kind: Kind = "mysql" if name == "mariadb" else name  # type: ignore[assignment]  # of _DRIVERS
        if tls is not None and self.kind == "sqlite":
            raise ValueError("tls for SQLite, which is a file")

    def __repr__(self) -> str:
        return f"<Database {self.where}>"

    @property
    def where(self) -> str:
        """The server's name for people, without credentials."""
        url = self.url
        if self.kind == "sqlite":
            return f"sqlite at {url.database or ':memory:'}"
        port = url.port or {"postgresql": 5432, "mysql": 3306}[self.kind]
        return f"{url.get_backend_name()} at {url.host or 'localhost'}:{port}/{url.database or ''}"

    @property
    def in_memory(self) -> bool:
        """Whether the database lives in its connection."""
        database = self.url.database or ""
        return self.kind == "sqlite" and (database in ("", ":memory:") or "mode=memory" in database)

    @property
    def is_missing(self) -> bool:
        """Whether it is a file that is not there: SQLite would make an empty one of it."""
        name = self.url.database or ""
        is_file = self.kind == "sqlite" and not self.in_memory and not name.startswith("file:")
        return is_file and not Path(name).exists()

    def engine(self, connect: Any, **options: Any) -> sqlalchemy.Engine:
        """Return an engine of SQLAlchemy over connections that ``connect()`` opens; parameters never show."""
        return sqlalchemy.create_engine(self.url, creator=connect, hide_parameters=True, **options)

    def connect(self, *, autocommit: bool = False) -> Any:
        """Open a connection of the driver's; raises ``SqlConnectionLostError`` or ``SqlAccessError``."""
        opener = {"sqlite": self._sqlite, "postgresql": self._postgresql, "mysql": self._mysql}[self.kind]
        try:
            return opener(autocommit)
        except (psycopg.Error, pymysql.err.MySQLError, sqlite3.Error, OSError, RuntimeError) as error:
            # From None: a driver's own trace may hold the arguments of the connect.
            raise connect_error(error, self.where) from None

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        dialect = self.url.get_dialect()()
        arguments, named = dialect.create_connect_args(self.url)
        return list(arguments), dict(named)

    def _sqlite(self, autocommit: bool) -> sqlite3.Connection:
        arguments, named = self._arguments()
        # Without isolation_level the module begins nothing by itself: transactions and savepoints are ours.
        named |= {"check_same_thread": False, "isolation_level": None}
        named.setdefault("timeout", self.read_timeout_s)
        raw: sqlite3.Connection = sqlite3.connect(*arguments, **named)
        try:
            raw.execute("PRAGMA foreign_keys = ON")
            raw.execute("PRAGMA schema_version").fetchall()  # reads the file: is it a database at all?
        except BaseException:
            raw.close()
            raise
        return raw

    def _postgresql(self, autocommit: bool) -> psycopg.Connection[Any]:
        _, named = self._arguments()
        named.setdefault("connect_timeout", max(1, math.ceil(self.connect_timeout_s)))
        named.setdefault("application_name", "rambla_py")
        # By default it would be the database's own, and of SQL_ASCII psycopg gives bytes for texts.
        named.setdefault("client_encoding", "UTF8")
        if self.tls is not None:
            named["sslmode"] = "verify-full" if self.tls.verify else "require"
            named["sslrootcert"] = self.tls.ca_file or ("system" if self.tls.verify else None)
            named["sslcert"], named["sslkey"] = self.tls.cert_file, self.tls.key_file
        given = {name: value for name, value in named.items() if value is not None}
        raw = _Patient.connect(**given, autocommit=autocommit)
        raw.patience_s = self.read_timeout_s
        return raw

    def _mysql(self, autocommit: bool) -> pymysql.Connection[Any]:
        _, named = self._arguments()
        named.setdefault("charset", "utf8mb4")
        if self.tls is not None:
            named["ssl"] = self._context(self.tls)
        raw: pymysql.Connection[Any] = pymysql.connect(
            **{
                **named,
                "autocommit": autocommit,
                "connect_timeout": self.connect_timeout_s,
                "read_timeout": self.read_timeout_s,
                "write_timeout": self.read_timeout_s,
            }
        )
        return raw

    def _context(self, tls: SqlTls) -> ssl.SSLContext:
        try:
            return client_context(tls, self.where)
        except AccessError as error:
            raise SqlAccessError(str(error)) from error


class _Patient(psycopg.Connection[Any]):
    """A connection whose server may be silent for ``patience_s`` seconds, and no longer.

    libpq waits for ever for a server that stopped answering with its connections open.
    """

    patience_s: float = math.inf

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        return super().wait(self._watched(gen), *args, **kwargs)

    def _watched(self, gen: Any) -> Generator[Any, Any, Any]:
        heard_at = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready != Ready.NONE:
                    heard_at = time.monotonic()
                elif time.monotonic() - heard_at > self.patience_s:
                    self.pgconn.finish()  # so that nothing waits for it once more
                    raise psycopg.OperationalError(f"no answer within {self.patience_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value
        finally:
            gen.close()


def _parsed(text: str) -> sqlalchemy.URL:
    """Return the URL with its driver; raises ``ValueError`` that quotes nothing of it."""
    url = None
    with suppress(ArgumentError, ValueError):
        url = make_url(text)
    if url is None:
        raise ValueError("a url that is not of the form dialect://user:password@host:port/database")
    name = url.get_backend_name()
    driver = _DRIVERS.get(name)
    if driver is None or url.drivername not in (name, driver):
        raise ValueError(
            f"a url of {_quotable(url.drivername)}; known are sqlite, postgresql, mysql and mariadb, "
            "by pysqlite, psycopg and pymysql"
        )
    return url.set(drivername=driver)


def _quotable(drivername: str) -> str:
    return repr(drivername) if drivername.replace("+", "").replace("_", "").isalnum() else "another kind"
