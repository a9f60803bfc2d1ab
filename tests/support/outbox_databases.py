"""Databases with the tables of an outbox, and an app with durable channels that does not run."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from config_handlers import load, service

from rambla_py import Handler, Rambla, outbox
from rambla_py.testing.databases import PostgresServer


class Shop(Handler):
    """Takes objects; one option."""

    class Options(msgspec.Struct):
        table: str = "events"

    def handle_publish(self, message: Any, options: Any, state: Any) -> None: ...


class Wire(Shop):
    """Takes bytes."""

    takes = "bytes"


def shop(**channel: Any) -> Rambla:
    """Return an app with the durable channels ``orders`` (of two services) and one that is not durable."""
    config = load(
        rambla={"outbox": {"url": "sqlite:////nowhere/outbox.db"}},
        shop=service(Shop, durable=True, **channel),
        wire=service(Wire, durable=True),
        plain={
            "handler": Shop,
            "connections": {"c": {}},
            "channels": {"mail": {"connection": "c"}},
        },
    )
    return Rambla(config)


class Database:
    """A database with the tables and a table ``orders`` of an application; reads are those of a test."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind, self.url = kind, url

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement on a connection of its own."""
        if self.kind == "sqlite":
            with closing(sqlite3.connect(self.url)) as connection, connection:
                return connection.execute(sql).fetchall()
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    @property
    def messages(self) -> list[tuple[str, str, bytes]]:
        """The target, id and payload of each stored message, in order."""
        if self.kind == "sqlite":
            return self.query("SELECT target, id, payload FROM rambla_arrival")
        return self.query("SELECT target, id, payload FROM rambla_message ORDER BY seq")

    @property
    def accepted(self) -> dict[str, int]:
        """How many messages were accepted, by target."""
        return self._counted("accepted")

    @property
    def duplicates(self) -> dict[str, int]:
        """How many messages were duplicates, by target."""
        return self._counted("duplicates")

    def _counted(self, name: str) -> dict[str, int]:
        if self.kind == "sqlite":
            join = (
                "rambla_account AS account JOIN rambla_target AS target ON number = target WHERE account.name"
            )
            return dict(self.query(f"SELECT target.name, count FROM {join} = '{name}'"))
        found = self.query(
            f"SELECT target, sum(count) FROM rambla_accepted WHERE name = '{name}' GROUP BY target"
        )
        return {target: int(count) for target, count in found}


def make_tables(database: Database) -> None:
    """Make the tables of the outbox and the application's."""
    script = outbox.ddl("sqlite" if database.kind == "sqlite" else "postgresql")
    if database.kind == "sqlite":
        with closing(sqlite3.connect(database.url)) as connection:
            connection.executescript(f"PRAGMA journal_mode = WAL; {script} CREATE TABLE orders (id INTEGER);")
        return
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(script.encode() + b"CREATE TABLE orders (id INTEGER);")


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Database:
    """A SQLite file with the tables."""
    database = Database("sqlite", str(tmp_path / "shop.db"))
    make_tables(database)
    return database


@pytest.fixture
def empty_postgres(postgres_server: PostgresServer) -> Iterator[Database]:
    """A PostgreSQL database of the test's own, without tables."""
    name = f"outbox_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    yield Database("postgres", f"{postgres_server.url.rpartition('/')[0]}/{name}")
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def postgres_database(empty_postgres: Database) -> Database:
    """A PostgreSQL database of the test's own, with the tables."""
    make_tables(empty_postgres)
    return empty_postgres
