"""Tests of statements of the sql handler that the server does not finish, and of servers that refuse writes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from database_fixtures import client
from sql_worker import ARRAYS, Base
from waiting import in_background, kinds, wait_until

import rambla_py as rambla
from rambla_py.errors import UnavailableError
from rambla_py.sql import SqlBackend, SqlConnectionLostError, SqlUnavailableError

SHORT = {"read_timeout_s": 0.5}
WAITING = {
    "postgres": "select count(*) from pg_stat_activity where wait_event_type = 'Lock'",
    "mariadb": "select count(*) from information_schema.processlist where info like 'INSERT INTO%'",
}


@contextmanager
def locked(base: Base) -> Iterator[Any]:
    """Hold the table, so that no other session can write to it; gives the connection that does."""
    connection: Any = client(base.server)
    statement = (
        "lock table {} in access exclusive mode" if base.kind == "postgres" else "lock tables {} write"
    )
    cursor = connection.cursor()
    cursor.execute("begin")
    cursor.execute(statement.format(base.table))
    try:
        yield connection
    finally:
        cursor.execute("rollback" if base.kind == "postgres" else "unlock tables")
        connection.close()


def waiting(base: Base) -> int:
    """Return how many sessions wait to write."""
    with SqlBackend(base.url) as db:
        return int(next(iter(db.execute(WAITING[base.kind]).data[0].values())))


@pytest.mark.parametrize("options", [{}, *ARRAYS], ids=str)
def test_a_statement_over_read_timeout_s_is_cancelled_in_the_server(options: dict[str, Any], served: Base):
    """It would be applied later: the messages wait, no session is left behind, and each row is there once."""
    served.make("id varchar(40) primary key, n integer")
    with served.worker(SHORT, columns=["n"], **options) as w:
        with locked(served):
            answers = w.deliver([w.message({"n": 1}, "a"), w.message({"n": 2}, "b")])
            wait_until(lambda: waiting(served) == 0)
        assert kinds(answers) == {SqlUnavailableError}
        assert "the server has cancelled the statement" in str(answers[0])
    assert served.rows() == []
    with served.worker(SHORT, columns=["n"], **options) as w:
        assert w.deliver([w.message({"n": 1}, "a"), w.message({"n": 2}, "b")]) == [None, None]
    assert len(served.rows()) == 2


def test_postgresql_keeps_the_connection_after_a_cancelled_statement(postgres: Base):
    """The server has confirmed that nothing was applied, so that the connection is sound."""
    postgres.make("id varchar(40), n integer")
    with postgres.worker(SHORT, columns=["n"]) as w:
        with locked(postgres):
            assert kinds(w.publish([{"n": 1}])) == {SqlUnavailableError}
        assert w.connection.lost is None
        assert w.publish([{"n": 1}]) == [None]


def test_closing_cancels_what_a_worker_waits_for(served: Base):
    """A worker that was given up leaves no statement behind that is applied later."""
    served.make("id varchar(40), n integer")
    with served.worker({"read_timeout_s": 60}, columns=["n"]) as w, locked(served):
        thread, _ = in_background(lambda: w.publish([{"n": 1}]))
        wait_until(lambda: waiting(served) == 1)
        w.close()
        thread.join(10)
        assert not thread.is_alive()
        wait_until(lambda: waiting(served) == 0)
    assert served.rows() == []


def test_one_message_is_one_row_however_long_the_lock_is_held(served: Base):
    """The fault of 0.1: each attempt left a session behind, and each of those inserted its row."""
    served.make("id varchar(40), n integer")
    table = {"connections": {"m": {"url": served.url, **SHORT}}}
    options = {"table": served.table, "columns": ["n"], "copy": False, "backoff": {"initial_s": 0.01}}
    conf = {"sql": {**table, "channels": {"orders": {"connection": "m", "options": options}}}}
    with rambla.Rambla(conf) as app:
        app.publish("orders", {"n": 0}).result(timeout_s=20)
        with locked(served):
            receipt = app.publish("orders", {"n": 1}, id="one")
            wait_until(lambda: "cancelled" in str(app.status()["sql.orders"].last_error))
        receipt.result(timeout_s=30)
    assert [row for row in served.rows() if row[0] == "one"] == [("one", 1)]


def test_a_server_that_does_not_answer_the_request_to_cancel(served: Base):
    """A paused server confirms nothing: the connection is lost, and the wait is bounded."""
    with served.worker(SHORT, create_table=True) as w:
        served.server.pause()
        done = threading.Event()
        thread, answers = in_background(lambda: (w.publish(["a"]), done.set())[0])
        try:
            assert done.wait(10)
        finally:
            served.server.resume()
            thread.join(10)
        assert kinds(answers) == {SqlConnectionLostError}
        assert w.connection.lost is not None


def read_only(base: Base) -> dict[str, Any]:
    """Return a URL of sessions that may only read."""
    setting = (
        "options=-c%20default_transaction_read_only%3Don"
        if base.kind == "postgres"
        else "init_command=set%20session%20transaction%20read%20only"
    )
    return {"url": f"{base.url}?{setting}"}


def test_a_read_only_server_is_unavailable(served: Base):
    """No attempt is used up; the connection is given up, because another may reach the primary."""
    served.make("id varchar(40), n integer")
    with served.worker(**read_only(served), columns=["n"]) as w:
        answers = w.publish([{"n": 1}, {"n": 2}])
        assert kinds(answers) == {SqlUnavailableError}
        assert isinstance(answers[0], UnavailableError)
        assert w.connection.lost is not None
    assert served.rows() == []


def test_a_full_disk_is_unavailable(tmp_path: Any, unique_name: str):
    """SQLite: nothing of the batch is kept, the connection stays, and there is room again afterwards."""
    base = Base("sqlite", f"sqlite:///{tmp_path}/full.db", "orders")
    with base.worker(create_table=True) as w:
        w.connection.raw.execute("pragma max_page_count = 5")
        answers = w.publish(["x" * 100_000])
        assert kinds(answers) == {SqlUnavailableError}
        w.connection.raw.execute("pragma max_page_count = 1000")
        assert w.publish(["x" * 100_000]) == [None]
    base.db.disconnect()


CANARY = "canary-4711"
_REFUSED: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "unique": ("id varchar(40), a varchar(40) unique", lambda value: {"a": value}),
    "check": ("id varchar(40), a varchar(40) check (a <> 'canary-4711')", lambda value: {"a": value}),
    "not null": ("id varchar(40), a varchar(40), b integer not null", lambda value: {"a": value, "b": None}),
    "number": ("id varchar(40), a varchar(40), b integer", lambda value: {"a": value, "b": value}),
    "too long": ("id varchar(40), a varchar(5)", lambda value: {"a": value}),
    "date": ("id varchar(40), a date", lambda value: {"a": value}),
}


@pytest.mark.parametrize("options", [{}, {"copy": False}], ids=str)
@pytest.mark.parametrize("kind", _REFUSED)
def test_errors_hold_no_values(kind: str, options: dict[str, Any], served: Base):
    """What the server says of a refused row quotes it; the error names the code and what refused it."""
    if served.kind == "mariadb" and options:
        return
    columns, payload = _REFUSED[kind]
    served.make(columns)
    given = payload(CANARY)
    with served.worker(columns=list(given), **options) as w:
        answers = w.publish([given, given])
    error = next(answer for answer in answers if answer is not None)
    assert CANARY not in str(error)
    assert "4711" not in repr(error)
    assert error.code
    assert error.code in str(error)
    assert error.__cause__ is not None


def test_an_error_names_what_refused_the_row(postgres: Base, mariadb: Base):
    """Constraint, column and table, so that the row can be found by the message's id."""
    for base, reason in ((postgres, "unique violation: constraint"), (mariadb, "dup entry: key")):
        base.make("id varchar(40) primary key")
        with base.worker(json_column="") as w:
            _, error = w.deliver([w.message({}, CANARY), w.message({}, CANARY)])
        assert str(error).startswith(reason)
        assert CANARY not in str(error)


def test_a_trigger_cannot_put_values_into_errors(postgres: Base):
    """What a function of the user's raises may quote anything: it is in the cause alone."""
    postgres.make("id varchar(40), a text")
    name = postgres.table
    postgres.db.execute(
        f"create function {name}_f() returns trigger language plpgsql as "
        "$$ begin raise exception 'no room for %', new.a; end $$"
    )
    postgres.db.execute(
        f"create trigger {name}_t before insert on {name} for each row execute function {name}_f()"
    )
    with postgres.worker(columns=["a"]) as w:
        (error,) = w.publish([{"a": CANARY}])
    assert (str(error), CANARY in str(error.__cause__)) == ("raise exception (P0001)", True)
    assert isinstance(error.__cause__, psycopg.Error)


@pytest.mark.parametrize("part", ["payload", "column", "id", "key", "header"])
def test_a_lone_surrogate_is_fatal(part: str, base: Base):
    """No driver can encode it, in whichever part of the message: no retry helps, and other rows are written."""
    base.make("id varchar(40), k varchar(40), h varchar(40), a varchar(40), payload text")
    columns = {"k": "key", "h": "headers.h", "a": "payload.a"}
    given: dict[str, Any] = {"payload": {"a": "x"}, "name": "b"}
    given |= {
        "payload": {"payload": {"other": "\ud800"}},
        "column": {"payload": {"a": "\udc80"}},
        "id": {"name": "\ud800"},
        "key": {"key": "\ud800"},
        "header": {"h": "\ud800"},
    }[part]
    with base.worker(columns=columns, json_column="payload") as w:
        bad = w.message(given.pop("payload"), given.pop("name"), **given)
        first, error, last = w.deliver([w.message({"a": "1"}, "a"), bad, w.message({"a": "2"}, "c")])
    assert (first, last) == (None, None)
    assert not error.retryable
    assert len(base.rows()) == 2
