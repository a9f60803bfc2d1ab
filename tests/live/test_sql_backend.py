"""Tests of ``SqlBackend`` against real servers, beyond its contract."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from forks import in_child
from sql_worker import Base, pick

from rambla_py.errors import AccessError
from rambla_py.sql import (
    SqlBackend,
    SqlConflictError,
    SqlConnectionLostError,
    SqlIntegrityError,
    SqlPermissionError,
    SqlStatementError,
    SqlUnavailableError,
    SqlUnknownOutcomeError,
    TlsTable,
)
from rambla_py.testing.databases import PostgresServer
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.harness import until
from rambla_py.testing.servers import Server, TlsFiles

Proxies = Callable[[Server], FaultProxy]


@pytest.fixture(params=("postgres", "mariadb"))
def served(request: pytest.FixtureRequest, tmp_path: Path, unique_name: str) -> Iterator[Base]:
    """Each of the databases that have a server."""
    made = pick(request.param, request.getfixturevalue, tmp_path, unique_name)
    yield made
    made.db.disconnect()


@pytest.fixture
def db(served: Base) -> SqlBackend:
    """A backend with a table of two rows."""
    served.make("id integer primary key, n integer not null")
    served.db.execute(f"insert into {served.table} values (1, 0), (2, 0)")
    return served.db


def in_threads(*works: Callable[[], Any]) -> list[BaseException]:
    """Run each on a thread of its own, wait for all, and return what they raised."""
    raised: list[BaseException] = []

    def run(work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return raised


def test_a_deadlock(served: Base, db: SqlBackend):
    """Of two transactions that wait for each other, one fails as a conflict and the other continues."""
    meeting = threading.Barrier(2)

    def work(first: int, second: int) -> None:
        with db.transaction():
            db.execute(f"update {served.table} set n = n + 1 where id = :id", {"id": first})
            meeting.wait(20)
            db.execute(f"update {served.table} set n = n + 1 where id = :id", {"id": second})

    raised = in_threads(lambda: work(1, 2), lambda: work(2, 1))
    assert [type(error) for error in raised] == [SqlConflictError]
    assert raised[0].retryable  # type: ignore[attr-defined]  # as just compared
    assert "\n" not in str(raised[0])
    assert sorted(served.rows()) == [(1, 1), (2, 1)]


def test_run_does_a_deadlock_again(served: Base, db: SqlBackend):
    """``run`` begins again, so both are done in the end."""
    meeting = threading.Barrier(2)
    calls: list[int] = []

    def work(first: int, second: int) -> Callable[[SqlBackend], None]:
        def both(db: SqlBackend) -> None:
            calls.append(first)
            db.execute(f"update {served.table} set n = n + 1 where id = :id", {"id": first})
            if calls.count(first) == 1:  # the second time there is nobody to meet
                meeting.wait(20)
            db.execute(f"update {served.table} set n = n + 1 where id = :id", {"id": second})

        return both

    assert in_threads(lambda: db.run(work(1, 2)), lambda: db.run(work(2, 1))) == []
    assert len(calls) == 3
    assert sorted(served.rows()) == [(1, 2), (2, 2)]


def test_a_serialization_failure(postgres_server: PostgresServer, tmp_path: Path, unique_name: str):
    """A transaction that read what another one has changed since fails as a conflict."""
    base = pick("postgres", lambda name: postgres_server, tmp_path, unique_name)
    base.make("id integer primary key, n integer")
    base.db.execute(f"insert into {base.table} values (1, 0)")
    with pytest.raises(SqlConflictError) as caught, base.db.transaction(isolation="REPEATABLE READ"):
        base.rows()
        assert not in_threads(lambda: base.db.execute(f"update {base.table} set n = 7"))
        base.db.execute(f"update {base.table} set n = n + 1")
    assert caught.value.code == "40001"
    assert base.rows() == [(1, 7)]
    base.db.disconnect()


def test_a_transaction_that_an_error_has_ended(
    postgres_server: PostgresServer, tmp_path: Path, unique_name: str
):
    """PostgreSQL keeps nothing after an error that was caught: the commit says so; a savepoint saves it."""
    base = pick("postgres", lambda name: postgres_server, tmp_path, unique_name)
    base.make("id integer primary key")
    insert = f"insert into {base.table} values (:id)"
    with pytest.raises(SqlIntegrityError, match="has ended this transaction"), base.db.transaction():
        base.db.execute(insert, {"id": 1})
        with suppress(SqlIntegrityError):
            base.db.execute(insert, {"id": 1})
    assert base.rows() == []
    with base.db.transaction():
        base.db.execute(insert, {"id": 1})
        with suppress(SqlIntegrityError), base.db.transaction():
            base.db.execute(insert, {"id": 1})
    assert base.rows() == [(1,)]
    base.db.disconnect()


def test_a_deadlock_that_was_caught(mariadb_server: Any, tmp_path: Path, unique_name: str):
    """MariaDB has undone all of that transaction, so nothing of it is committed, what came later included."""
    base = pick("mariadb", lambda name: mariadb_server, tmp_path, unique_name)
    base.make("id integer primary key, n integer not null")
    base.db.execute(f"insert into {base.table} values (1, 0), (2, 0)")
    meeting = threading.Barrier(2)
    insert = f"insert into {base.table} values (:id, 0)"

    def work(first: int, second: int) -> None:
        with base.db.transaction():
            base.db.execute(f"update {base.table} set n = n + 1 where id = :id", {"id": first})
            meeting.wait(20)
            with suppress(SqlConflictError):
                base.db.execute(f"update {base.table} set n = n + 1 where id = :id", {"id": second})
            base.db.execute(insert, {"id": 10 + first})

    raised = in_threads(lambda: work(1, 2), lambda: work(2, 1))
    assert [type(error) for error in raised] == [SqlConflictError]
    found = dict(base.rows())
    assert found in ({1: 1, 2: 1, 11: 0}, {1: 1, 2: 1, 12: 0})
    base.db.disconnect()


def test_a_full_disk_that_was_caught(tmp_path: Path):
    """SQLite has undone all of that transaction: what comes later is not committed by itself."""
    with SqlBackend(f"sqlite:///{tmp_path}/shop.db") as db:
        db.execute("create table t (id integer primary key, b blob)")
        with pytest.raises(SqlUnavailableError, match="has ended this transaction"), db.transaction():
            db.execute("pragma max_page_count = 20")
            db.execute("insert into t values (1, zeroblob(10))")
            with suppress(SqlUnavailableError):
                db.execute("insert into t values (2, zeroblob(1000000))")
            with suppress(SqlUnavailableError):
                db.execute("insert into t values (3, zeroblob(10))")
        assert db.execute("select id from t").data == []


def test_the_isolation_ends_with_the_transaction(served: Base, db: SqlBackend):
    """A connection goes back to the pool with the level that it came with."""
    show = "show transaction_isolation" if served.kind == "postgres" else "select @@tx_isolation"
    with SqlBackend(served.url, pool_size=1) as one:
        before = one.execute(show).data
        with one.transaction(isolation="SERIALIZABLE"):
            inside = one.execute(show).data
        assert one.execute(show).data == before != inside


def test_last_insert_id(served: Base):
    """The key that the database made: what the driver knows, or the first column of ``returning``."""
    kind = "serial" if served.kind == "postgres" else "integer auto_increment"
    served.make(f"id {kind} primary key, n integer")
    made = served.db.execute(f"insert into {served.table} (n) values (7)")
    assert made.last_insert_id == (None if served.kind == "postgres" else 1)
    assert (
        served.db.execute(f"insert into {served.table} (n) values (8)", returning=["id"]).last_insert_id == 2
    )


def test_returning_where_there_is_none(mariadb_server: Any, tmp_path: Path, unique_name: str):
    """MariaDB has no RETURNING for UPDATE, and neither has any database for a SELECT."""
    base = pick("mariadb", lambda name: mariadb_server, tmp_path, unique_name)
    base.make("id integer primary key")
    with pytest.raises(SqlStatementError, match="no RETURNING for UPDATE"):
        base.db.execute(f"update {base.table} set id = 1", returning=["id"])
    with pytest.raises(SqlStatementError, match="not with 'SELECT'"):
        base.db.execute("select 1", returning=["id"])
    base.db.disconnect()


def test_a_restart_is_not_noticed(served: Base, db: SqlBackend):
    """All connections of the pool are gone at once: the next statements run on fresh ones."""
    in_threads(*[lambda: db.execute("select 1")] * 5)
    served.server.restart()
    assert in_threads(*[lambda: db.execute("select 1")] * 5) == []
    assert db.execute(f"update {served.table} set n = 5").affected_rows == 2


def test_a_transaction_begins_on_a_connection_that_stands(served: Base, db: SqlBackend):
    """A server ends what is idle over night: the first transaction of the day does not find out."""
    in_threads(*[lambda: db.execute("select 1")] * 5)
    idle_since = time.monotonic()
    served.server.restart()
    assert until(lambda: time.monotonic() - idle_since > 0.2)
    with db.transaction():
        db.execute(f"update {served.table} set n = 5")
    with db.transaction(isolation="SERIALIZABLE"):
        db.execute(f"update {served.table} set n = n + 1 where id = 1")
    assert sorted(served.rows()) == [(1, 6), (2, 5)]


def test_a_loss_during_the_commit(served: Base, db: SqlBackend, fault_proxy: Proxies):
    """It is not tried again: whether it was applied is not known."""
    proxy = fault_proxy(served.server)
    sql = f"update {served.table} set n = n + 1 where id = 1"
    with SqlBackend(served.server.url_at(proxy.host, proxy.port)) as behind:
        behind.execute(sql)
        before = proxy.bytes_down
        behind.execute(sql)
        # The answers to the same statement have the same length; the pool's ROLLBACK is part of them.
        each = proxy.bytes_down - before
        with behind.transaction() as transaction:
            before = proxy.bytes_down
            behind.execute(sql)
            of_statement = proxy.bytes_down - before
            assert 0 < of_statement < each
            proxy.cut_after(0, direction="down")
            with pytest.raises(SqlUnknownOutcomeError):
                transaction.commit()
    assert proxy.cuts == 1


def test_a_server_that_stops_answering(served: Base):
    """Silence is bounded by ``read_timeout_s``, and counts as a loss."""
    with SqlBackend(served.url, read_timeout_s=0.3, connect_timeout_s=0.3, retries=0) as db:
        served.server.pause()
        began = time.monotonic()
        with pytest.raises(SqlConnectionLostError):
            db.execute("select 1")
        assert not db.ping(reconnect=False)
        assert time.monotonic() - began < 8
        served.server.resume()
        assert db.ping()


def test_tls(served: Base, tls_files: TlsFiles):
    """With TLS the certificate is checked; one of an unknown authority is refused."""
    with SqlBackend(served.url, tls=TlsTable(ca_file=str(tls_files.authority))) as db:
        assert db.ping()
    assert not SqlBackend(served.url, tls=TlsTable()).ping()


def test_what_the_user_may_not_do(postgres_server: PostgresServer, tmp_path: Path, unique_name: str):
    """A missing permission is an error of its own, which is not retried."""
    base = pick("postgres", lambda name: postgres_server, tmp_path, unique_name)
    base.make("id integer")
    base.db.execute(f"create role r_{base.table} login password 's3cret'")
    host, port, user = postgres_server.host, postgres_server.port, f"r_{base.table}"
    with SqlBackend(f"postgresql://{user}:s3cret@{host}:{port}/rambla") as db:
        with pytest.raises(SqlPermissionError) as caught:
            db.execute(f"select * from {base.table}")
        assert isinstance(caught.value, AccessError)
        assert db.execute("select 1 as one").first == {"one": 1}
    base.db.disconnect()


def test_a_forked_child_has_connections_of_its_own(served: Base, db: SqlBackend):
    """The child writes by itself, and the parent's connections and transaction stay as they are."""
    with db.transaction():
        db.execute(f"update {served.table} set n = 1 where id = 1")
        assert in_child(lambda: db.execute(f"update {served.table} set n = 2 where id = 2")) == 0
        db.execute(f"update {served.table} set n = n + 10 where id = 1")
    assert sorted(served.rows()) == [(1, 11), (2, 2)]


def test_ended_by_the_administrator(postgres_server: PostgresServer, tmp_path: Path, unique_name: str):
    """A session that an administrator ends is a lost connection, and the statement runs on another."""
    base = pick("postgres", lambda name: postgres_server, tmp_path, unique_name)
    with SqlBackend(postgres_server.url, pool_size=1) as db:
        row = db.execute("select pg_backend_pid() as pid").first
        with psycopg.connect(postgres_server.url, autocommit=True) as other:
            other.execute("select pg_terminate_backend(%s)", [row["pid"]])
        again = db.execute("select pg_backend_pid() as pid").first
    assert row != again
    base.db.disconnect()
