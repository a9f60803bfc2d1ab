"""A database by URL, and the opening of connections to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.util import get_cls_kwargs

from rambla_py._internal.host_names import ascii_host
from rambla_py._internal.tls import TlsTable, refuse_keys
from rambla_py._internal.urls import check_ends, check_url
from rambla_py.serialization.encoding import to_json
from rambla_py.sql.dialect import ConnectOptions, SqlDialect
from rambla_py.sql.errors import SqlError, SqlOptionError
from rambla_py.sql.registry import find_dialect

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["Database", "checked_database"]

_NAME_ONLY = re.compile(r"[A-Za-z]\w*(\+\w+)?|[\w.]+:[\w.]+")
_FORM = "dialect://user:password@host:port/database"


class Database:
    """A database by its URL; ``connect`` opens a connection of the driver.

    ``parts`` are ``host``, ``port``, ``database``, ``username``, ``password`` and ``charset`` beside the URL,
    which may then be a dialect's name alone. Raises ``ValueError`` for a URL that cannot be used, parameters
    that the driver does not know included.

    >>> Database("postgresql://app:hunter2@db.internal/shop").where
    'postgresql at db.internal:5432/shop'
    >>> Database("postgresql", {"host": "db.internal", "database": "shop", "password": "a/b"}).where
    'postgresql at db.internal:5432/shop'
    """

    def __init__(
        self,
        url: str,
        parts: Mapping[str, Any] | None = None,
        *,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 10.0,
        tls: TlsTable | None = None,
        for_asyncio: bool = False,
    ) -> None:
        self.dialect: SqlDialect = _dialect_of(url, parts or {})
        self.url = self.dialect.url
        self.options = ConnectOptions(connect_timeout_s, read_timeout_s, tls)
        self._lent: Any = None
        if self.dialect.alchemy.is_async and not for_asyncio:
            kind = self.url.get_backend_name()
            raise ValueError(
                f"{self.url.drivername} is a driver for asyncio; use {kind}:// here, or AsyncSqlBackend"
            )
        if tls is not None and not self.dialect.has_tls:
            raise ValueError(f"tls cannot be used with {self.kind}")
        if tls is not None:
            refuse_keys(tls, "server_name", reason="the certificate must have the URL's host")

    def __repr__(self) -> str:
        return f"<Database {self.where}>"

    @property
    def kind(self) -> str:
        """The name of the dialect."""
        return self.dialect.name or self.url.get_backend_name()

    @property
    def where(self) -> str:
        """The database for errors and logs, without credentials."""
        return self.dialect.where

    def pool_size(self, wanted: int) -> int:
        """Return how many connections there can be: a database in memory is its connection."""
        return 1 if self.dialect.in_memory else wanted

    def engine(self, connect: Any, **options: Any) -> sqlalchemy.Engine:
        """Return an engine of SQLAlchemy over connections of ``connect()``; it never shows values."""
        return sqlalchemy.create_engine(
            self.url, creator=connect, hide_parameters=True, **self._json(self.url), **options
        )

    @contextmanager
    def engine_over(self, connection: Any) -> Iterator[sqlalchemy.Engine]:
        """Give an engine over a live connection of the driver, which stays open; for one thread at a time.

        It is made once: SQLAlchemy keeps each dialect that has looked at a table, 0.1 MB with what it has
        compiled, in a cache of 128.
        """
        self._lent = connection
        try:
            yield self._over_lent
        finally:
            self._lent = None
            self._over_lent.dispose(close=False)

    @cached_property
    def _over_lent(self) -> sqlalchemy.Engine:
        return self.engine(lambda: self._lent, poolclass=sqlalchemy.StaticPool)

    def async_engine(self, **options: Any) -> AsyncEngine:
        """Return an engine over the asyncio driver; raises ``ValueError`` if the dialect has none."""
        driver = self.dialect.async_driver
        if driver:
            url, creator = self.url.set(drivername=driver), {"async_creator": self.connect_async}
        elif self.url.get_dialect().is_async:
            url, creator = self.url, {}
        else:
            raise ValueError(f"{self.kind} has no driver for asyncio; use SqlBackend in a thread")
        from sqlalchemy.ext.asyncio import create_async_engine  # it imports the ORM

        return create_async_engine(url, hide_parameters=True, **self._json(url), **creator, **options)

    def connect(self, *, autocommit: bool = False) -> Any:
        """Open a connection of the driver; raises ``SqlConnectionLostError`` or ``SqlAccessError``."""
        try:
            return self.dialect.open(self.options._replace(autocommit=autocommit))
        except SqlError:
            raise
        except Exception as error:
            failed = self.dialect.map_connect_error(error)
        # Not inside "except": a driver's error holds the arguments of the connect, also the password.
        raise failed

    async def connect_async(self) -> Any:
        """Open a connection of the asyncio driver; raises what ``connect`` raises."""
        try:
            return await self.dialect.open_async(self.options)
        except SqlError:
            raise
        except Exception as error:
            failed = self.dialect.map_connect_error(error)
        raise failed

    def map_error(self, error: BaseException) -> SqlError:
        """Return the ``SqlError`` for any error; the driver's text is its ``detail``."""
        return error if isinstance(error, SqlError) else self.dialect.map_error(error).with_detail(str(error))

    def _json(self, url: sqlalchemy.URL) -> dict[str, Any]:
        taken = get_cls_kwargs(url.get_dialect())
        return {"json_serializer": _json_text} if "json_serializer" in taken else {}


def checked_database(url: str, parts: Mapping[str, Any], *, pool_size: int, **options: Any) -> Database:
    """Return the database; raises ``SqlOptionError`` for a URL, a part or an option that cannot be used."""
    if not isinstance(pool_size, int) or pool_size < 1:
        raise SqlOptionError("pool_size", f"must be an integer of at least 1; got {pool_size!r}")
    try:
        return Database(url, {name: value for name, value in parts.items() if value is not None}, **options)
    except ValueError as error:
        raise SqlOptionError("url", str(error)) from None


def _dialect_of(text: str, parts: Mapping[str, Any]) -> SqlDialect:
    """Return the dialect with its URL; raises ``ValueError``, which quotes nothing of the URL but names."""
    if _NAME_ONLY.fullmatch(text):
        kind = find_dialect(text if ":" in text else text.lower().partition("+")[0], _driver(text))
        url = sqlalchemy.URL.create(kind.driver or text)
    else:
        check_ends(text)
        scheme = text.partition("://")[0]
        kind = _kind_of(scheme)
        if not kind.in_process:
            check_url(text)
        url = _made(text).set(drivername=kind.driver or scheme.lower())
    url = _with_parts(url, parts, kind)
    if url.host and not url.host.startswith("/") and "," not in url.host:
        url = url.set(host=ascii_host(url.host))
    try:
        dialect = kind(url)
    except (ImportError, SQLAlchemyError) as error:
        raise ValueError(f"the driver of {url.drivername} cannot be used: {error}") from error
    dialect.check_url()
    return dialect


def _driver(text: str) -> str:
    return "" if ":" in text else text.lower()


def _kind_of(scheme: str) -> type[SqlDialect]:
    if not re.fullmatch(r"\w+(\+\w+)?", scheme):
        check_url(scheme)
        raise ValueError(f"a url that is not of the form {_FORM}")
    return find_dialect(scheme.lower().partition("+")[0], scheme.lower())


def _made(text: str) -> sqlalchemy.URL:
    url = None
    with suppress(ArgumentError, ValueError):
        url = make_url(text)
    if url is None:
        raise ValueError(f"a url that is not of the form {_FORM}")
    return url


def _with_parts(url: sqlalchemy.URL, parts: Mapping[str, Any], kind: type[SqlDialect]) -> sqlalchemy.URL:
    for name, value in parts.items():
        wanted = int if name == "port" else str
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ValueError(f"{name} must be {'an integer' if name == 'port' else 'a string'}")
        if name == "charset":
            url = _with_charset(url, str(value), kind)
        elif getattr(url, name) not in (None, ""):
            raise ValueError(f"{name} is given twice: in the url and beside it")
        else:
            given: dict[str, Any] = {name: value}
            url = url.set(**given)
    return url


def _with_charset(url: sqlalchemy.URL, charset: str, kind: type[SqlDialect]) -> sqlalchemy.URL:
    parameter = kind.charset_parameter
    if not parameter:
        raise ValueError(f"charset cannot be set for {kind.name or url.get_backend_name()}")
    if parameter in url.query:
        raise ValueError(f"charset is given twice: in the url, as {parameter}, and beside it")
    return url.update_query_dict({parameter: charset})


def _json_text(value: Any) -> str:
    return to_json(value).decode()
