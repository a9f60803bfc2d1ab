"""Each driver of the transactional API behind one interface, as an application would use it."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any, ClassVar, Self

import asyncpg
import django
import django.conf
import psycopg
import sqlalchemy
from outbox_databases import Database
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from rambla_py import outbox

if not django.conf.settings.configured:
    django.conf.settings.configure(DATABASES={}, INSTALLED_APPS=["rambla_py.outbox.django"], USE_TZ=True)
    django.setup()
from django.db.utils import ConnectionHandler


class Driver:
    """A connection in a transaction; the methods block, also those of asynchronous drivers."""

    kind: ClassVar[str]
    is_async: ClassVar[bool] = False
    given: Any

    def __init__(self, database: Database) -> None:
        self.url = database.url
        self.loop = asyncio.Runner()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.loop.close()

    def run(self, coroutine: Any) -> Any:
        """Wait for what an asynchronous driver does."""

        async def awaited() -> Any:
            return await coroutine

        return self.loop.run(awaited())

    def publish(self, *args: Any, **options: Any) -> str:
        if self.is_async:
            return self.run(outbox.publish_async(self.given, *args, **options))
        return outbox.publish(self.given, *args, **options)

    def publish_many(self, *args: Any, **options: Any) -> list[str]:
        if self.is_async:
            return self.run(outbox.publish_many_async(self.given, *args, **options))
        return outbox.publish_many(self.given, *args, **options)

    def connect(self) -> None: ...

    def begin(self) -> None: ...

    def execute(self, sql: str) -> None: ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...


class Sqlite3(Driver):
    kind = "sqlite"

    def connect(self) -> None:
        self.given = sqlite3.connect(self.url, isolation_level=None)

    def begin(self) -> None:
        self.execute("BEGIN")

    def execute(self, sql: str) -> None:
        self.given.execute(sql)

    def commit(self) -> None:
        self.given.commit()

    def rollback(self) -> None:
        self.given.rollback()

    def close(self) -> None:
        self.given.close()


class Psycopg(Sqlite3):
    kind = "postgres"

    def connect(self) -> None:
        self.given = psycopg.connect(self.url)

    def begin(self) -> None:
        self.execute("SELECT 1")  # in a connection without autocommit, any statement does


class PsycopgCursor(Psycopg):
    def connect(self) -> None:
        self.connection = psycopg.connect(self.url)
        self.given = self.connection.cursor()

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()

    def close(self) -> None:
        self.connection.close()


class AsyncPsycopg(Driver):
    kind, is_async = "postgres", True

    def connect(self) -> None:
        self.given = self.run(psycopg.AsyncConnection.connect(self.url))

    def begin(self) -> None:
        self.execute("SELECT 1")

    def execute(self, sql: str) -> None:
        self.run(self.given.execute(sql))

    def commit(self) -> None:
        self.run(self.given.commit())

    def rollback(self) -> None:
        self.run(self.given.rollback())

    def close(self) -> None:
        self.run(self.given.close())


class Asyncpg(Driver):
    kind, is_async = "postgres", True

    def connect(self) -> None:
        self.given = self.run(asyncpg.connect(self.url))

    def begin(self) -> None:
        self.transaction = self.given.transaction()
        self.run(self.transaction.start())

    def execute(self, sql: str) -> None:
        self.run(self.given.execute(sql))

    def commit(self) -> None:
        self.run(self.transaction.commit())

    def rollback(self) -> None:
        self.run(self.transaction.rollback())

    def close(self) -> None:
        self.run(self.given.close())


class AlchemySession(Driver):
    """A session; over psycopg."""

    kind = "postgres"
    scheme: ClassVar[str] = "postgresql+psycopg"

    def url_for(self, scheme: str) -> str:
        return (
            f"{scheme}:///{self.url}" if self.kind == "sqlite" else f"{scheme}:{self.url.partition(':')[2]}"
        )

    def connect(self) -> None:
        self.engine = sqlalchemy.create_engine(self.url_for(self.scheme))
        self.given = Session(self.engine)

    def begin(self) -> None:
        self.given.begin()

    def execute(self, sql: str) -> None:
        self.given.execute(sqlalchemy.text(sql))

    def commit(self) -> None:
        self.given.commit()

    def rollback(self) -> None:
        self.given.rollback()

    def close(self) -> None:
        self.given.close()
        self.engine.dispose()


class AlchemySqliteSession(AlchemySession):
    kind, scheme = "sqlite", "sqlite"


class AlchemyConnection(AlchemySession):
    def connect(self) -> None:
        self.engine = sqlalchemy.create_engine(self.url_for(self.scheme))
        self.given = self.engine.connect()


class AlchemyAsyncSession(Driver):
    """An asynchronous session; over asyncpg."""

    kind, is_async = "postgres", True
    scheme: ClassVar[str] = "postgresql+asyncpg"
    url_for = AlchemySession.url_for

    def connect(self) -> None:
        self.engine = create_async_engine(self.url_for(self.scheme))
        self.given = AsyncSession(self.engine)

    def begin(self) -> None:
        self.run(self.given.begin())

    def execute(self, sql: str) -> None:
        self.run(self.given.execute(sqlalchemy.text(sql)))

    def commit(self) -> None:
        self.run(self.given.commit())

    def rollback(self) -> None:
        self.run(self.given.rollback())

    def close(self) -> None:
        self.run(self.given.close())
        self.run(self.engine.dispose())


class AlchemyAsyncSqlite(AlchemyAsyncSession):
    kind, scheme = "sqlite", "sqlite+aiosqlite"


class AlchemyAsyncConnection(AlchemyAsyncSession):
    scheme = "postgresql+psycopg"

    def connect(self) -> None:
        self.engine = create_async_engine(self.url_for(self.scheme))
        self.given = self.run(self.engine.connect())


class Django(Driver):
    kind = "postgres"

    def settings(self) -> dict[str, Any]:
        made = sqlalchemy.make_url(self.url)
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": made.database,
            "USER": made.username,
            "PASSWORD": made.password,
            "HOST": made.host,
            "PORT": made.port,
        }

    def connect(self) -> None:
        self.given = ConnectionHandler({"default": self.settings()})["default"]
        self.given.ensure_connection()

    def begin(self) -> None:
        self.given.set_autocommit(False)

    def execute(self, sql: str) -> None:
        with self.given.cursor() as cursor:
            cursor.execute(sql)

    def commit(self) -> None:
        self.given.commit()

    def rollback(self) -> None:
        self.given.rollback()

    def close(self) -> None:
        self.given.close()


class DjangoSqlite(Django):
    kind = "sqlite"

    def settings(self) -> dict[str, Any]:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": self.url}


DRIVERS: list[type[Driver]] = [
    Sqlite3,
    AlchemySqliteSession,
    AlchemyAsyncSqlite,
    DjangoSqlite,
    Psycopg,
    PsycopgCursor,
    AsyncPsycopg,
    Asyncpg,
    AlchemySession,
    AlchemyConnection,
    AlchemyAsyncSession,
    AlchemyAsyncConnection,
    Django,
]
