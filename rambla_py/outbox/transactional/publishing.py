"""Publishing inside a transaction of the application, with any driver."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final

from rambla_py._internal.default_app import find_default_app
from rambla_py.errors import NotRunningError
from rambla_py.outbox.errors import OutboxError
from rambla_py.outbox.transactional.driver_errors import mapped_errors
from rambla_py.outbox.transactional.drivers.asyncpg_driver import AsyncpgBinding
from rambla_py.outbox.transactional.drivers.base import AsyncBinding, Binding
from rambla_py.outbox.transactional.drivers.django_driver import DjangoBinding
from rambla_py.outbox.transactional.drivers.psycopg_driver import AsyncPsycopgBinding, PsycopgBinding
from rambla_py.outbox.transactional.drivers.sqlalchemy_driver import (
    AsyncSqlAlchemyBinding,
    SqlAlchemyBinding,
)
from rambla_py.outbox.transactional.drivers.sqlite3_driver import Sqlite3Binding
from rambla_py.outbox.transactional.messages import App, Messages, checked
from rambla_py.outbox.transactional.statements import Query, Steps, steps_for
from rambla_py.telemetry.tracing import ends_with

__all__ = ["publish", "publish_async", "publish_many", "publish_many_async"]

_Made = Callable[[Any], Binding | AsyncBinding]

# By the top-level package of a class or of one that it derives from, and a name: an application's own
# subclasses are found as well. The value is whether the connection is asynchronous, and its binding.
_BINDINGS: Final[Mapping[tuple[str, str], tuple[bool, _Made]]] = {
    ("sqlite3", "Connection"): (False, Sqlite3Binding),
    ("sqlite3", "Cursor"): (False, Sqlite3Binding),
    ("psycopg", "Connection"): (False, PsycopgBinding),
    ("psycopg", "Cursor"): (False, PsycopgBinding),
    ("psycopg", "AsyncConnection"): (True, AsyncPsycopgBinding),
    ("psycopg", "AsyncCursor"): (True, AsyncPsycopgBinding),
    ("sqlalchemy", "Session"): (False, SqlAlchemyBinding),
    ("sqlalchemy", "scoped_session"): (False, SqlAlchemyBinding),
    ("sqlalchemy", "Connection"): (False, SqlAlchemyBinding),
    ("sqlalchemy", "AsyncSession"): (True, AsyncSqlAlchemyBinding),
    ("sqlalchemy", "async_scoped_session"): (True, AsyncSqlAlchemyBinding),
    ("sqlalchemy", "AsyncConnection"): (True, AsyncSqlAlchemyBinding),
    ("asyncpg", "Connection"): (True, AsyncpgBinding),
    ("asyncpg", "PoolConnectionProxy"): (True, AsyncpgBinding),
    ("django", "BaseDatabaseWrapper"): (False, DjangoBinding),
    ("django", "ConnectionProxy"): (False, DjangoBinding),
}
_KNOWN: Final = {
    False: (
        "sqlite3.Connection, psycopg.Connection or Cursor, sqlalchemy.orm.Session, sqlalchemy.Connection, "
        "and a Django connection or its alias"
    ),
    True: (
        "psycopg.AsyncConnection, sqlalchemy.ext.asyncio.AsyncSession or AsyncConnection, "
        "and asyncpg.Connection"
    ),
}


def publish(
    connection: Any,
    channels: str | Iterable[str],
    message: Any,
    /,
    *,
    app: App | None = None,
    **options: Any,
) -> str:
    """Store a message in the transaction that is open on a connection, and return its id.

    The message is delivered if and only if that transaction commits, by a process that delivers from the
    outbox in this database; a savepoint that is rolled back takes it along. It takes one statement.
    ``connection`` is a ``sqlite3.Connection``, a ``psycopg.Connection`` or cursor, a ``Session`` or
    ``Connection`` of SQLAlchemy, a connection of Django or its alias. ``app`` (the default app unless given)
    has the configuration, and need not run. Messages and options are those of ``Rambla.publish``.

    Raises what ``Rambla.publish`` raises before anything is accepted; ``OptionError`` if a channel is not
    durable; ``NoTransactionError`` without an open transaction; ``OutboxSchemaError`` without the tables,
    which ``rambla outbox init`` makes; ``DuplicateIdError`` for a given id of another payload;
    ``OutboxError`` for anything that the database refuses, with the driver's error as its cause.

    >>> import sqlite3
    >>> from rambla_py import Rambla, outbox
    >>> table = {"null": {"channels": {"orders": {"durable": True}}}}
    >>> app = Rambla({"rambla": {"outbox": {"url": "sqlite:///shop.db"}}, **table})
    >>> connection = sqlite3.connect(":memory:")
    >>> with connection:
    ...     _ = connection.executescript(outbox.ddl("sqlite") + "CREATE TABLE orders (id INTEGER)")
    >>> with connection:
    ...     _ = connection.execute("INSERT INTO orders VALUES (42)")
    ...     outbox.publish(connection, "orders", {"id": 42}, app=app, id="order-42")
    'order-42'
    >>> connection.close()
    """
    return _store(connection, _messages(app, channels, (message,), options))[0]


def publish_many(
    connection: Any,
    channels: str | Iterable[str],
    messages: Iterable[Any],
    /,
    *,
    app: App | None = None,
    **options: Any,
) -> list[str]:
    """Store many messages in the transaction that is open on a connection, and return their ids, in order.

    All of them are checked before the first is stored, all by one statement (on SQLite one for each 1,000).
    Raises as ``publish`` does.
    """
    return _store(connection, _messages(app, channels, messages, options, many=True))


def publish_async(
    connection: Any,
    channels: str | Iterable[str],
    message: Any,
    /,
    *,
    app: App | None = None,
    **options: Any,
) -> Coroutine[Any, Any, str]:
    """Store a message as ``publish`` does, with an asynchronous connection; to be awaited.

    The message is checked and captured in this call, and stored in the coroutine returned.
    ``connection`` is a ``psycopg.AsyncConnection`` or cursor, an ``AsyncSession`` or ``AsyncConnection`` of
    SQLAlchemy, or an ``asyncpg.Connection``. Raises as ``publish`` does.
    """
    messages = _messages(app, channels, (message,), options)

    async def stored() -> str:
        return (await _store_async(connection, messages))[0]

    return stored()


def publish_many_async(
    connection: Any,
    channels: str | Iterable[str],
    messages: Iterable[Any],
    /,
    *,
    app: App | None = None,
    **options: Any,
) -> Coroutine[Any, Any, list[str]]:
    """Store many messages as ``publish_many`` does, with an asynchronous connection."""
    return _store_async(connection, _messages(app, channels, messages, options, many=True))


def _messages(
    app: App | None,
    channels: str | Iterable[str],
    messages: Iterable[Any],
    options: Mapping[str, Any],
    *,
    many: bool = False,
) -> Messages:
    found: App | None = find_default_app() if app is None else app
    if found is None:
        raise NotRunningError("not started; outbox.publish needs the configuration of an app: give app=")
    return checked(found, channels, messages, options, many=many)


def _store(connection: Any, messages: Messages) -> list[str]:
    with ends_with(messages.trace):
        _run(_binding(connection, is_async=False), messages)
    return messages.ids


async def _store_async(connection: Any, messages: Messages) -> list[str]:
    with ends_with(messages.trace):
        await _run_async(_binding(connection, is_async=True), messages)
    return messages.ids


def _run(binding: Any, messages: Messages) -> None:
    with mapped_errors(binding.name):
        binding.check()
        steps = steps_for(binding.dialect(), messages.rows, guesses_types=binding.guesses_types)
        query = next(steps, None)
        while query is not None:
            try:
                found = binding.run(query)
            except Exception as error:
                query = steps.throw(error)
            else:
                query = _next(steps, found)


async def _run_async(binding: Any, messages: Messages) -> None:
    with mapped_errors(binding.name):
        binding.check()
        steps = steps_for(binding.dialect(), messages.rows, guesses_types=binding.guesses_types)
        query = next(steps, None)
        while query is not None:
            try:
                found = await binding.run(query)
            except Exception as error:
                query = steps.throw(error)
            else:
                query = _next(steps, found)


def _next(steps: Steps, found: list[Any]) -> Query | None:
    try:
        return steps.send(found)
    except StopIteration:
        return None


def _binding(connection: Any, *, is_async: bool) -> Binding | AsyncBinding:
    if isinstance(connection, str) and not is_async:
        return DjangoBinding(connection)
    kind = type(connection)
    for base in kind.__mro__:
        found = _BINDINGS.get((base.__module__.split(".")[0], base.__name__))
        if found is None:
            continue
        if found[0] != is_async:
            function = "publish_async" if found[0] else "publish"
            reason = f"a {kind.__name__} is {'' if found[0] else 'not '}asynchronous; use outbox.{function}"
            raise OutboxError(found[1](connection).name, reason)
        return found[1](connection)
    reason = f"cannot publish with a {kind.__module__}.{kind.__qualname__}; known are {_KNOWN[is_async]}"
    raise OutboxError(kind.__name__, reason)
