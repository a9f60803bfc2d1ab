"""What outbox.publish takes and refuses beside the drivers' ordinary connections."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import asyncpg
import django.db
import msgspec
import psycopg
import pytest
import sqlalchemy
from django.core.management import call_command
from django.db import transaction
from outbox_databases import Database, shop
from outbox_drivers import Django, DjangoSqlite, Driver
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from rambla_py import NoTransactionError, NotRunningError, OutboxError, Rambla, outbox
from rambla_py._default_app import lent
from rambla_py.outbox.sqlite.journal import SqliteJournal
from rambla_py.outbox.transactional.drivers.base import known_dialect
from rambla_py.outbox.transactional.schema import drop_statements

APP = shop()


class OwnConnection(sqlite3.Connection):
    """A subclass of an application's own."""


def test_a_subclass_of_a_connection_is_found(sqlite_database: Database) -> None:
    """By the class that it derives from."""
    with closing(sqlite3.connect(sqlite_database.url, factory=OwnConnection)) as connection, connection:
        connection.execute("INSERT INTO orders VALUES (1)")
        outbox.publish(connection, "shop.orders", 1, app=APP)
    assert len(sqlite_database.messages) == 1


def test_a_row_factory_of_the_application_is_not_used(sqlite_database: Database) -> None:
    """It may return anything."""
    with closing(sqlite3.connect(sqlite_database.url)) as connection, connection:
        connection.row_factory = lambda *_: "no row"
        connection.execute("INSERT INTO orders VALUES (1)")
        for payload in (1, 1):
            outbox.publish(connection, "shop.orders", payload, app=APP, id="m-1")
    assert len(sqlite_database.messages) == 1


def test_an_unknown_type_is_refused_with_those_that_are_known() -> None:
    """For blocking and for asynchronous ones."""
    with pytest.raises(OutboxError, match=r"builtins.object; known are sqlite3.Connection, psycopg"):
        outbox.publish(object(), "shop.orders", 1, app=APP)
    with pytest.raises(OutboxError, match=r"known are psycopg.AsyncConnection, .*asyncpg.Connection"):
        asyncio.run(outbox.publish_async(object(), "shop.orders", 1, app=APP))


def test_the_other_function_is_named(sqlite_database: Database) -> None:
    """For a blocking connection in a coroutine."""
    with closing(sqlite3.connect(sqlite_database.url)) as connection, pytest.raises(OutboxError) as caught:
        asyncio.run(outbox.publish_async(connection, "shop.orders", 1, app=APP))
    assert "not asynchronous; use outbox.publish" in str(caught.value)


def test_the_default_app_is_used_without_another(sqlite_database: Database) -> None:
    """Without one, the error says what to do."""
    with closing(sqlite3.connect(sqlite_database.url)) as connection, connection:
        connection.execute("INSERT INTO orders VALUES (1)")
        with lent(APP):
            outbox.publish(connection, "shop.orders", 1)
        with lent(None), pytest.raises(NotRunningError, match="app="):  # type: ignore[arg-type]
            outbox.publish(connection, "shop.orders", 1)
    assert len(sqlite_database.messages) == 1


def test_a_disabled_app_checks_and_stores_nothing(sqlite_database: Database) -> None:
    """As its publish does."""
    config = APP.config
    off = Rambla(
        msgspec.structs.replace(config, rambla=msgspec.structs.replace(config.rambla, enabled=False))
    )
    with closing(sqlite3.connect(sqlite_database.url)) as connection, connection:
        connection.execute("INSERT INTO orders VALUES (1)")
        assert outbox.publish(connection, "shop.orders", 1, app=off)
    assert sqlite_database.messages == []


def test_a_scoped_session_is_a_session(postgres_database: Database) -> None:
    """Over its registry."""
    engine = sqlalchemy.create_engine(f"postgresql+psycopg:{postgres_database.url.partition(':')[2]}")
    session = scoped_session(sessionmaker(engine))
    with session.begin():
        outbox.publish(session, "shop.orders", 1, app=APP)
    session.remove()
    engine.dispose()
    assert len(postgres_database.messages) == 1


def test_autocommit_of_sqlalchemy_is_refused(postgres_database: Database) -> None:
    """SQLAlchemy's own state speaks of a transaction there, but each statement commits by itself."""
    url = f"postgresql+psycopg:{postgres_database.url.partition(':')[2]}"
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with Session(engine) as session, session.begin(), pytest.raises(NoTransactionError, match="AUTOCOMMIT"):
        outbox.publish(session, "shop.orders", 1, app=APP)
    engine.dispose()
    plain = sqlalchemy.create_engine(url)
    with plain.connect().execution_options(isolation_level="AUTOCOMMIT") as one, one.begin():
        error = pytest.raises(NoTransactionError, match="AUTOCOMMIT")
        with error:
            outbox.publish(one, "shop.orders", 1, app=APP)
    plain.dispose()
    assert postgres_database.messages == []


def test_a_connection_of_an_asyncpg_pool_is_one(postgres_database: Database) -> None:
    """The pool hands out proxies."""

    async def run() -> None:
        pool = asyncpg.create_pool(postgres_database.url, min_size=1)
        async with pool, pool.acquire() as one, one.transaction():
            await outbox.publish_async(one, "shop.orders", 1, app=APP)

    asyncio.run(run())
    assert len(postgres_database.messages) == 1


def test_a_failed_transaction_of_asyncpg_is_refused(postgres_database: Database) -> None:
    """It shows at the statement only."""

    async def run() -> None:
        connection = await asyncpg.connect(postgres_database.url)
        try:
            await connection.execute("BEGIN")
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute("SELECT nonsense")
            with pytest.raises(NoTransactionError):
                await outbox.publish_async(connection, "shop.orders", 1, app=APP)
        finally:
            await connection.close()

    asyncio.run(run())


def test_another_database_has_no_outbox() -> None:
    """It is named."""
    engine = sqlalchemy.create_mock_engine("mysql+pymysql://", lambda *_: None)
    with pytest.raises(OutboxError, match="'mysql'; use sqlite or postgresql"):
        known_dialect("sqlalchemy", engine.dialect.name)


@pytest.fixture(params=[Django, DjangoSqlite], ids=lambda kind: kind.__name__)
def alias(request: pytest.FixtureRequest) -> Iterator[tuple[str, Database]]:
    """The alias of a database of Django, in its settings."""
    kind: type[Driver] = request.param
    database = request.getfixturevalue("sqlite_database" if kind.kind == "sqlite" else "postgres_database")
    name = f"shop_{kind.kind}"
    handler = django.db.connections
    handler.settings[name] = handler.configure_settings({"default": kind(database).settings()})["default"]  # type: ignore[attr-defined]
    yield name, database
    handler[name].close()
    del handler[name]
    del handler.settings[name]


def test_django_publishes_by_alias_inside_atomic(alias: tuple[str, Database]) -> None:
    """An inner block that fails takes its messages along."""
    name, database = alias
    with transaction.atomic(using=name):
        outbox.publish(name, "shop.orders", 1, app=APP)
        with pytest.raises(ValueError, match="undo"), transaction.atomic(using=name):
            outbox.publish(name, "shop.orders", 2, app=APP)
            raise ValueError("undo")
        outbox.publish(django.db.connections[name], "shop.orders", 3, app=APP)
    assert len(database.messages) == 2
    with pytest.raises(NoTransactionError, match=r"transaction\.atomic"):
        outbox.publish(name, "shop.orders", 4, app=APP)


def test_a_block_of_django_that_must_be_rolled_back_is_refused(alias: tuple[str, Database]) -> None:
    """Django would refuse the next query as well."""
    name, database = alias
    with transaction.atomic(using=name):
        transaction.set_rollback(True, using=name)
        with pytest.raises(NoTransactionError, match="rolled back"):
            outbox.publish(name, "shop.orders", 1, app=APP)
    assert database.messages == []


def test_an_alias_that_django_does_not_have_is_refused() -> None:
    """With those that it has."""
    with pytest.raises(OutboxError, match=r"no database 'shp'; known are .*default"):
        outbox.publish("shp", "shop.orders", 1, app=APP)


def test_a_role_needs_few_privileges(postgres_database: Database) -> None:
    """INSERT on two tables and SELECT on one; with given ids the duplicate window as well."""
    role = f"writer_{postgres_database.url.rpartition('_')[2]}"
    postgres_database.query(f"CREATE ROLE {role}")
    try:
        postgres_database.query(f"GRANT INSERT ON rambla_message, rambla_accepted, orders TO {role}")
        postgres_database.query(f"GRANT SELECT ON rambla_relay TO {role}")
        with psycopg.connect(postgres_database.url) as connection:
            connection.execute(f"SET ROLE {role}".encode())
            connection.execute("INSERT INTO orders VALUES (1)")
            outbox.publish(connection, "shop.orders", 1, app=APP)
        postgres_database.query(f"GRANT SELECT, INSERT, UPDATE ON rambla_seen TO {role}")
        with psycopg.connect(postgres_database.url) as connection:
            connection.execute(f"SET ROLE {role}".encode())
            connection.execute("INSERT INTO orders VALUES (1)")
            outbox.publish(connection, "shop.orders", 1, app=APP, id="m-1")
    finally:
        postgres_database.query(f"DROP OWNED BY {role}")
        postgres_database.query(f"DROP ROLE {role}")
    assert len(postgres_database.messages) == 2


COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity
FROM information_schema.columns WHERE table_name LIKE 'rambla%' ORDER BY 1, 2
"""
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE tablename LIKE 'rambla%' ORDER BY 2"
OPTIONS = "SELECT relname, reloptions FROM pg_class WHERE relname LIKE 'rambla%' ORDER BY 1"


def test_the_metadata_makes_what_the_script_makes(postgres_database: Database, postgres_server: Any) -> None:
    """Columns, keys, indexes and storage options."""
    wanted = [postgres_database.query(look) for look in (COLUMNS, INDEXES, OPTIONS)]
    for statement in drop_statements("postgresql"):
        postgres_database.query(statement)
    metadata = sqlalchemy.MetaData()
    made = outbox.tables(metadata)
    assert {table.name for table in made} == {name for name, *_ in wanted[0]}
    engine = sqlalchemy.create_engine(f"postgresql+psycopg:{postgres_database.url.partition(':')[2]}")
    metadata.create_all(engine)
    engine.dispose()
    assert [postgres_database.query(look) for look in (COLUMNS, INDEXES, OPTIONS)] == wanted


def test_the_script_is_refused_for_other_databases() -> None:
    """With those that are known."""
    with pytest.raises(ValueError, match="known are postgresql and sqlite"):
        outbox.ddl("mysql")  # type: ignore[arg-type]


def test_djangos_migration_makes_and_removes_the_tables(tmp_path: Any) -> None:
    """On SQLite here; PostgreSQL runs the same statements as its script."""
    handler = django.db.connections
    settings = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "m.db")}
    handler.settings["migrated"] = handler.configure_settings({"default": settings})["default"]
    try:
        call_command("migrate", "rambla_outbox", database="migrated", verbosity=0)
        with transaction.atomic(using="migrated"):
            outbox.publish("migrated", "shop.orders", 1, app=APP)
        with closing(sqlite3.connect(tmp_path / "m.db")) as connection:
            assert connection.execute("SELECT count(*) FROM rambla_arrival").fetchone() == (1,)
        call_command("migrate", "rambla_outbox", "zero", database="migrated", verbosity=0)
        with closing(sqlite3.connect(tmp_path / "m.db")) as connection:
            left = connection.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'rambla%'").fetchall()
        assert left == []
    finally:
        handler["migrated"].close()
        del handler["migrated"]
        del handler.settings["migrated"]


def test_tables_of_the_application_may_have_any_name(tmp_path: Any) -> None:
    """In one file with those of the outbox; its own version of its tables is left alone."""
    file = tmp_path / "shop.db"
    with closing(sqlite3.connect(file)) as connection:
        for name in ("message", "account", "target", "owner", "dead", "seen"):
            connection.execute(f"CREATE TABLE {name} (id INTEGER)")
        connection.execute("PRAGMA user_version = 7")
        connection.commit()
        journal = SqliteJournal(file)
        journal.open(delivers=True)
        journal.close()
        connection.execute("INSERT INTO account VALUES (1)")
        outbox.publish(connection, "shop.orders", 1, app=APP)
        connection.commit()
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)
        assert connection.execute("SELECT count(*) FROM rambla_message").fetchone() == (1,)
