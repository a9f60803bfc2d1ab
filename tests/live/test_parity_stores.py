"""Rows S and P of the page on parity, each shown by a program that uses public names only."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy
from public_names import hidden_names

import rambla_py as rambla
from rambla_py.sql import (
    Converter,
    FallbackDialect,
    SqlBackend,
    SqlDialect,
    SqlIntegrityError,
    SqlStatementError,
    UnsupportedTypeError,
    find_dialect,
    register_dialect,
)
from rambla_py.state import (
    EncryptedStore,
    FileStore,
    HttpStore,
    HybridStore,
    MemoryStore,
    RedisStore,
    SqliteStore,
    StateAccessError,
    StateConflictError,
    StateDecryptError,
    StateInUseError,
    StateQuotaError,
    StateStore,
    StateUnavailableError,
    generate_key,
    parse_keys,
    register_store,
    store_from_url,
)
from rambla_py.testing import (
    FakeClock,
    SqlContract,
    StateContract,
    StateServer,
)

EACH = pytest.mark.parametrize("kind", ["sqlite", "postgres_server", "mariadb_server"])
ADDRESS = Converter("address", IPv4Address, "varchar(15)", str, IPv4Address)


@pytest.fixture
def url(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> str:
    """The URL of each kind of database."""
    return f"sqlite:///{tmp_path}/a.db" if kind == "sqlite" else request.getfixturevalue(kind).url


@pytest.fixture
def db(url: str) -> Iterator[SqlBackend]:
    """A backend for each kind of database."""
    with SqlBackend(url, converters=[ADDRESS]) as backend:
        yield backend


@pytest.fixture
def table(db: SqlBackend, unique_name: str) -> Iterator[str]:
    """A table of stock: a name and a number."""
    name = f"t{unique_name[-8:]}"
    db.execute(f"create table {name} (name varchar(20) primary key, n integer not null)")
    yield name
    db.execute(f"drop table {name}")


def numbers(db: SqlBackend, table: str) -> list[int]:
    return [row["n"] for row in db.execute(f"select n from {table} order by n").data]


def test_only_public_names_are_used() -> None:
    """This file imports public names of public packages, and uses no attribute that begins with ``_``."""
    assert hidden_names(__file__) == []


@EACH
def test_s1_a_backend(db: SqlBackend, table: str) -> None:
    """It connects, executes with values, returns rows, counts and times, disconnects and connects again."""
    db.connect()
    made = db.execute(f"insert into {table} values (:a, :n)", {"a": "tea", "n": 3}, returning=["name", "n"])
    assert (made.data, made.affected_rows) == ([{"name": "tea", "n": 3}], 1)
    assert made.duration_s > 0
    db.disconnect()
    assert db.ping(reconnect=True)
    assert numbers(db, table) == [3]


@EACH
def test_s2_statements_and_types(db: SqlBackend, table: str) -> None:
    """Both kinds of placeholders, expressions, values by their types, converters, and their errors."""
    db.execute(f"insert into {table} values (?, ?)", ["tea", 1])
    stock = sqlalchemy.table(table, sqlalchemy.column("name"), sqlalchemy.column("n"))
    db.execute(sqlalchemy.insert(stock).values(name="salt", n=2))
    assert numbers(db, table) == [1, 2]
    at = datetime(2026, 1, 2, 3, tzinfo=UTC)
    values = {"d": Decimal("1.10"), "j": {"a": [1]}, "u": UUID(int=7), "at": at}
    types = {"d": "numeric(10, 2)", "j": "json", "u": "uuid", "at": "timestamptz"}
    row = db.execute("select :d as d, :j as j, :u as u, :at as at", values, column_types=types).first
    assert row == values
    hosts = {"a": IPv4Address("10.1.2.3")}
    assert db.execute("select :a as a", hosts, column_types={"a": "address"}).first == hosts
    with pytest.raises(UnsupportedTypeError):
        db.execute("select :a as a", {"a": object()})
    with pytest.raises(SqlStatementError):
        db.execute(f"update {table} set n = ?", [1, "tea"])


@EACH
def test_s3_transactions(db: SqlBackend, table: str) -> None:
    """Commit and rollback, by ``with`` and by hand, with an isolation level, and nested by savepoints."""
    insert = f"insert into {table} values (?, ?)"
    with db.transaction(isolation="SERIALIZABLE"):
        db.execute(insert, ["a", 1])
        with pytest.raises(SqlIntegrityError), db.transaction():
            db.execute(insert, ["b", 2])
            db.execute(insert, ["a", 3])
    with pytest.raises(ZeroDivisionError), db.transaction():
        db.execute(insert, ["c", 1 // 0])
    db.begin()
    db.execute(insert, ["d", 4])
    db.rollback()
    db.begin()
    db.execute(insert, ["e", 5])
    db.commit()
    assert numbers(db, table) == [1, 5]


@pytest.mark.parametrize("kind", ["postgres_server"])
def test_s4_errors_and_reconnection(db: SqlBackend, table: str, url: str) -> None:
    """A driver's error is one of ours; a statement whose connection was killed is run on another one."""
    db.execute(f"insert into {table} values ('a', 1)")
    with pytest.raises(SqlIntegrityError) as caught:
        db.execute(f"insert into {table} values ('a', 2)")
    assert isinstance(caught.value, rambla.RamblaError)
    assert not caught.value.retryable
    pid = "select pg_backend_pid() as pid"
    first = db.execute(pid).first["pid"]
    with SqlBackend(url) as other:
        other.execute("select pg_terminate_backend(:pid)", {"pid": first})
    assert db.execute(pid).first["pid"] != first


@EACH
def test_s5_a_pool_and_batches(db: SqlBackend, table: str, url: str) -> None:
    """Many rows in one call, of the backend and of the handler; threads share a bounded pool."""
    db.execute_many(f"insert into {table} values (?, ?)", [[f"a{n}", n] for n in range(1_000)])
    sql = {"connections": {"main": {"url": url}}, "channels": {"rows": {"options": {"table": table}}}}
    sql["channels"]["rows"]["options"] |= {"columns": ["name", "n"], "id_column": ""}
    with rambla.Rambla({"sql": sql}) as app:
        rows = [{"name": f"b{n}", "n": n} for n in range(1_000, 3_000)]
        app.publish_many("rows", rows).result(timeout_s=30)
        app.flush(timeout_s=5)
        assert app.status()["sql.rows"].batches < 200
    with SqlBackend(url, pool_size=2) as small:
        found: list[list[int]] = []
        threads = [threading.Thread(target=lambda: found.append(numbers(small, table))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [list(range(3_000))] * 6


@EACH
def test_s6_ten_threads_and_a_dialect_of_ones_own(db: SqlBackend, table: str) -> None:
    """No update of ten threads is lost; a dialect is registered by its name."""
    db.execute(f"insert into {table} values ('count', 0)")

    def add(db: SqlBackend) -> None:
        n = db.execute(f"select n from {table}").first["n"]
        db.execute(f"update {table} set n = ?", [n + 1])

    def work() -> None:
        for _ in range(3):
            db.run(add, isolation="SERIALIZABLE", retries=1_000)

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(db, table) == [30]


class ParityDialect(SqlDialect):
    """A database of one's own: SQLite by another name."""

    name = "paritydb"
    driver = "sqlite+pysqlite"
    in_process = True


def test_s6_a_registered_dialect(tmp_path: Path) -> None:
    """A dialect is found by its name, and another database of SQLAlchemy without one."""
    register_dialect(ParityDialect)
    assert find_dialect("paritydb") is ParityDialect
    assert find_dialect("mssql") is FallbackDialect
    with SqlBackend(f"paritydb:///{tmp_path}/a.db") as backend:
        assert backend.execute("select 1 as one").data == [{"one": 1}]


class TestS6(SqlContract):
    """A database of one's own passes the contract suite."""

    has_server = has_login = can_cut = checks_types = shares_database = False

    def url(self) -> str:
        return "sqlite://"


@EACH
def test_s7_a_handler(url: str, unique_name: str, db: SqlBackend) -> None:
    """Columns and JSON for the rest, ``upsert``, tables made; a bad row does not lose its batch."""
    table = f"t{unique_name[-8:]}"
    columns = {"n": "payload.n::integer", "city": "payload.address.city::varchar(4)"}
    options = {
        "table": table,
        "create_table": True,
        "upsert": True,
        "columns": columns,
        "json_column": "rest",
    }
    channel = {"options": options, "batch_timeout_s": 0.1}
    sql = {"connections": {"main": {"url": url}}, "channels": {"orders": channel}}
    with rambla.Rambla({"sql": sql}) as app:
        order = {"n": 1, "address": {"city": "Oslo"}, "lines": 3}
        app.publish("orders", order, id="one").result(timeout_s=20)
        app.publish("orders", {**order, "n": 2}, id="one").result(timeout_s=20)
        rows = [rambla.Message({"n": n}, id=f"id-{n}") for n in (3, 2**70, 4)]
        outcomes = app.publish_many("orders", rows).outcomes(timeout_s=20)
    assert [outcome.status for outcome in outcomes] == ["ok", "fatal", "ok"]
    data = db.execute(f"select n, city from {table} order by n").data
    db.execute(f"drop table {table}")
    assert data == [{"n": 2, "city": "Oslo"}, {"n": 3, "city": None}, {"n": 4, "city": None}]


@pytest.fixture(params=["sqlite", "file", "redis", "http"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, unique_name: str
) -> Iterator[Callable[[], StateStore]]:
    """How each durable store is opened."""
    if request.param == "http":
        with StateServer(token="t0ken") as server:
            yield lambda: HttpStore(server.url, token="t0ken")
    elif request.param == "redis":
        server = request.getfixturevalue("redis_server")
        yield lambda: RedisStore(server.url, prefix=unique_name)
    else:
        kind = SqliteStore if request.param == "sqlite" else FileStore
        yield lambda: kind(tmp_path / "state")


def test_p1_verbs_and_records(store: Callable[[], StateStore]) -> None:
    """Get, set, delete, get all and clear; a record has key, value and times."""
    with store() as one:
        first = one.set("a", {"lines": 2}, expires_s=100)
        record = one.set("a", {"lines": 3})
        assert (record.key, record.value, record.expires_at) == ("a", {"lines": 3}, None)
        assert record.created_at == first.created_at <= record.updated_at
        assert first.expires_at is not None
        one.set("b", 1)
        assert [found.key for found in one.get_all()] == ["a", "b"]
        assert (one.delete("a"), one.delete("a"), one.get("a")) == (True, False, None)
        one.clear()
        assert one.get_all() == []


def test_p2_stores_that_last(store: Callable[[], StateStore]) -> None:
    """What a durable store was given is there when it is opened again."""
    with store() as one:
        one.set("a", [1, Decimal("1.10")])
    with store() as again:
        assert again.get("a").value == [1, "1.10"]


def test_p2_memory() -> None:
    """A memory store has its records as long as it lives."""
    with MemoryStore() as one:
        one.set("a", 1)
        assert one.get("a").value == 1


def test_p3_remote_over_http() -> None:
    """A server survives its restart with its records; its health and the token are checked by ``init``."""
    with StateServer(token="t0ken") as server:
        with HttpStore(server.url, token="t0ken") as one:
            one.set("a", 1)
        with pytest.raises(StateAccessError):
            HttpStore(server.url, token="other").init()
        server.kill()
        with pytest.raises(StateUnavailableError):
            HttpStore(server.url, token="t0ken").init()
        server.restart()
        with HttpStore(server.url, token="t0ken") as one:
            assert one.get("a").value == 1


def test_p4_memory_in_front(tmp_path: Path) -> None:
    """The front is filled at ``init``, and a write goes through it."""
    with SqliteStore(tmp_path / "state.db") as back:
        back.set("a", 1)
    with HybridStore(MemoryStore(), SqliteStore(tmp_path / "state.db")) as one:
        assert one.front.get("a").value == 1
        one.set("b", 2)
        assert one.back.get("b") == one.front.get("b") == one.get("b")


def test_p5_encryption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are encrypted, each with a new nonce, by a key of the environment; keys rotate."""
    monkeypatch.setenv("STATE_KEY", f"2025:{generate_key()}")
    url = f"sqlite:///{tmp_path}/state.db"
    state = {"connections": {"here": {"url": url, "encryption_key": "${STATE_KEY}"}}}
    with rambla.Rambla({"state": {**state, "channels": {"cards": {}}}}) as app:
        app.publish("cards", {"ada": "4242", "grace": "4242"}).result(timeout_s=10)
    with store_from_url(url) as plain:
        kept = {str(record.value) for record in plain.get_all()}
    assert len(kept) == 2
    assert "4242" not in "".join(kept)
    old, new = os.environ["STATE_KEY"], f"2026:{generate_key()}"
    with EncryptedStore(SqliteStore(tmp_path / "state.db"), parse_keys(f"{new} {old}")) as one:
        assert one.get("ada").value == "4242"
        assert one.reencrypt() == 2
    with (
        EncryptedStore(SqliteStore(tmp_path / "state.db"), parse_keys(old)) as one,
        pytest.raises(StateDecryptError),
    ):
        one.get("ada")


def test_p6_expiry(tmp_path: Path) -> None:
    """Expired records are not returned, and ``cleanup_expired`` counts those that it removes."""
    clock = FakeClock()
    for one in (
        MemoryStore(clock=clock),
        SqliteStore(tmp_path / "a", clock=clock),
        FileStore(tmp_path / "b", clock=clock),
    ):
        with one:
            one.set("a", 1, expires_s=10)
            one.set("b", 1)
            clock.advance(11)
            assert (one.get("a"), [record.key for record in one.get_all()]) == (None, ["b"])
            assert (one.cleanup_expired(), one.cleanup_expired()) == (1, 0)


def test_p7_clear_errors() -> None:
    """A store that is replaced after the start, and a store without room, are errors of their own."""
    with HybridStore(MemoryStore(), MemoryStore()) as hybrid, pytest.raises(StateInUseError):
        hybrid.front = MemoryStore()
    with MemoryStore(max_bytes=100) as one:
        one.set("a", 1)
        with pytest.raises(StateQuotaError):
            one.set("b", "x" * 200)
        assert [record.key for record in one.get_all()] == ["a"]


class ParityStore(MemoryStore):
    """A store of one's own."""

    @classmethod
    def from_url(cls, url: str, **options: Any) -> ParityStore:
        return cls(**options)


def test_p8_a_store_of_ones_own(store: Callable[[], StateStore]) -> None:
    """By URL; prefixes, namespaces and conditions; awaitable methods."""
    register_store("paritystore", ParityStore)
    assert isinstance(store_from_url("paritystore://here"), ParityStore)

    async def awaited() -> list[str]:
        async with store() as one:
            carts = one.namespace("carts")
            await carts.aset("ada", 1)
            await one.aset("lock", 1, if_absent=True)
            with pytest.raises(StateConflictError):
                await one.aset("lock", 2, if_absent=True)
            assert [record.key for record in await carts.aget_all()] == ["ada"]
            return [record.key for record in await one.aget_all(prefix="carts:")]

    assert asyncio.run(awaited()) == ["carts:ada"]


def test_p8_a_handler(tmp_path: Path) -> None:
    """Publishing a mapping writes records."""
    url = f"sqlite:///{tmp_path}/state.db"
    channel = {"options": {"prefix": "cart:", "ttl_s": 3600}}
    state = {"connections": {"here": {"url": url}}, "channels": {"carts": channel}}
    with rambla.Rambla({"state": state}) as app:
        assert app.publish("carts", {"ada": 1, "grace": 2}).result(timeout_s=10) == 2
    with SqliteStore(tmp_path / "state.db") as one:
        assert [(record.key, record.value) for record in one.get_all()] == [
            ("cart:ada", 1),
            ("cart:grace", 2),
        ]


class TestP8(StateContract):
    """A store of one's own passes the contract suite."""

    shared = durable = False

    def make(self, clock: Callable[[], float]) -> StateStore:
        return ParityStore(clock=clock)
