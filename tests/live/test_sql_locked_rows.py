"""Tests of rows that another session has locked: what the other messages of the channel go through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from database_fixtures import client
from server_fixtures import require
from sql_worker import Base, Worker
from waiting import kinds, wait_until

import rambla_py as rambla
from rambla_py.delivery import Delivery
from rambla_py.sql import SqlUnavailableError
from rambla_py.testing import PgBouncer

NUMBER = 1_000
BAD = frozenset(range(25, NUMBER, 50))  # 2 %
LONG = {"read_timeout_s": 10}
SHORT = {"read_timeout_s": 0.5}
BOUNDED = {"postgres": ("500ms", "0"), "mariadb": (1, 50)}
LOOK = {"postgres": "show lock_timeout", "mariadb": "select @@session.innodb_lock_wait_timeout"}


@contextmanager
def holding(base: Base, names: Iterable[Any], *, inserted: bool = False) -> Iterator[None]:
    """Hold locks on the rows with these ids: existing ones, or some that it inserts and then takes back."""
    connection: Any = client(base.server)
    cursor = connection.cursor()
    cursor.execute("begin")
    for name in names:
        if inserted:
            cursor.execute(f"insert into {base.table} (id, n) values ('{name}', -1)")
        else:
            cursor.execute(f"select * from {base.table} where id = '{name}' for update")
    try:
        yield
    finally:
        cursor.execute("rollback")
        connection.close()


@contextmanager
def locked_table(base: Base) -> Iterator[None]:
    """Hold the whole table."""
    connection: Any = client(base.server)
    cursor = connection.cursor()
    cursor.execute("begin")
    lock = "lock table {}" if base.kind == "postgres" else "lock tables {} write"
    cursor.execute(lock.format(base.table))
    try:
        yield
    finally:
        cursor.execute("rollback" if base.kind == "postgres" else "unlock tables")
        connection.close()


def app_of(base: Base, settings: dict[str, Any], **options: Any) -> rambla.Rambla:
    """Return an app that has no retries: one that is spent makes its message fatal."""
    given = {"table": base.table, "columns": ["n"], "retries": 0, **options}
    channel = {"connection": "m", "options": given, "max_reconnect_s": 0.2}
    return rambla.Rambla(
        {"sql": {"connections": {"m": {"url": base.url, **settings}}, "channels": {"orders": channel}}}
    )


def delivered(app: rambla.Rambla) -> int:
    return app.status()["sql.orders"].statuses["ok"]


@pytest.mark.parametrize(
    ("kind", "settings", "options", "inserted"),
    [
        ("postgres", LONG, {"upsert": True}, False),
        ("postgres", SHORT, {"upsert": True}, False),
        ("postgres", LONG, {"upsert": True, "copy": False}, False),
        ("postgres", LONG, {}, True),
        ("postgres", SHORT, {}, True),
        ("postgres", LONG, {"copy": False}, True),
        ("mariadb", LONG, {"upsert": True}, False),
        ("mariadb", LONG, {}, True),
    ],
    ids=str,
)
def test_locked_rows_do_not_hold_up_the_others(
    kind: str,
    settings: dict[str, Any],
    options: dict[str, Any],
    inserted: bool,
    request: pytest.FixtureRequest,
):
    """2 % of 1,000 are locked: the others are there meanwhile, these afterwards, and no retry is spent."""
    base: Base = request.getfixturevalue(kind)
    base.make("id varchar(40) primary key, n integer")
    if not inserted:
        base.db.execute(f"insert into {base.table} values " + ", ".join(f"('{at}', -1)" for at in BAD))
    messages = [rambla.Message({"n": at}, id=str(at)) for at in range(NUMBER)]
    with app_of(base, settings, **options) as app:
        with holding(base, BAD, inserted=inserted):
            receipt = app.publish_many("orders", messages)
            wait_until(lambda: delivered(app) == NUMBER - len(BAD))
            for at in range(3):
                app.publish("orders", {"n": at}, id=f"later {at}").result(timeout_s=20)
            assert not receipt.done()
        outcomes = receipt.outcomes(timeout_s=20)
    assert {outcome.status for outcome in outcomes} == {"ok"}
    # On a slow server a batch may be cut, so that others come again as well.
    assert {outcome.message_id for outcome in outcomes if outcome.attempts > 1} >= {str(at) for at in BAD}
    found = base.rows("select n, count(*) from {} where id not like 'later%%' group by n order by n")
    assert found == [(at, 1) for at in range(NUMBER)]


def test_a_locked_table_is_an_unavailable_target(served: Base):
    """No message is at fault, nothing is lost, and delivery resumes when the lock is given up."""
    served.make("id varchar(40) primary key, n integer")
    with app_of(served, LONG, upsert=True) as app:
        app.publish("orders", {"n": -1}, id="first").result(timeout_s=20)
        with locked_table(served):
            receipt = app.publish_many("orders", [{"n": at} for at in range(50)])
            wait_until(lambda: app.status()["sql.orders"].state == "blocked")
            assert delivered(app) == 1
        outcomes = receipt.outcomes(timeout_s=20)
        assert app.status()["sql.orders"].state == "up"
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert len(served.rows()) == 51


@pytest.mark.parametrize("settings", [LONG, SHORT], ids=str)
def test_a_row_that_is_alone_in_its_batch_is_told_from_its_table(settings: dict[str, Any], served: Base):
    """A locked row concerns messages that wait for such rows, a locked table all of them."""
    if served.kind == "mariadb" and settings is SHORT:
        return  # there the session ends with the statement
    served.make("id varchar(40) primary key, n integer")
    served.db.execute(f"insert into {served.table} values ('a', 0)")
    with served.worker(settings, columns=["n"], upsert=True) as w:
        with holding(served, ["a"]):
            (row,) = w.deliver([w.message({"n": 1}, "a")])
        with locked_table(served):
            (table,) = w.deliver([w.message({"n": 1}, "a")])
        assert w.deliver([w.message({"n": 1}, "a")]) == [None]
    assert kinds([row, table]) == {SqlUnavailableError}
    assert (row.scope, table.scope) == (f"a locked row of {served.table}", "target")


def test_a_percent_sign_in_a_name(served: Base):
    """The statement that tells a locked row from a locked table has it once."""
    served.make(
        "id varchar(40) primary key, " + ('"a%b"' if served.kind == "postgres" else "`a%b`") + " integer"
    )
    served.db.execute(f"insert into {served.table} (id) values ('a')")
    with served.worker(columns={"a%b": "payload.n"}, upsert=True) as w, holding(served, ["a"]):
        answers = w.deliver([w.message({"n": 1}, "a"), w.message({"n": 1}, "b")])
    assert answers[1] is None
    assert answers[0].scope == f"a locked row of {served.table}"


def wait_of(base: Base, connection: Any) -> Any:
    """Return how long a session waits for a lock."""
    cursor = connection.cursor()
    cursor.execute(LOOK[base.kind])
    return cursor.fetchone()[0]


def apart(w: Worker, payload: Any, name: str, **more: Any) -> Delivery:
    """Return a message that was refused again although others were delivered."""
    message: Any = w.message(payload, name, **more)
    message.attempts = 3
    message.past().set_apart()
    return message  # type: ignore[no-any-return]  # a LiveDelivery, whose type is not the public one


def test_a_row_that_stays_locked_does_not_slow_batches_down(postgres: Base):
    """It is written after the others: these are one statement again, which no lock delays."""
    postgres.make("id varchar(40) primary key, n integer")
    postgres.db.execute(f"insert into {postgres.table} values ('a', 0)")
    with postgres.worker(columns=["n"], upsert=True) as w, holding(postgres, ["a"]):
        first = w.deliver([w.message({"n": at}, name) for at, name in enumerate("abc")])
        assert [answer is None for answer in first] == [False, True, True]
        again = [apart(w, {"n": 9}, "a"), *[w.message({"n": at}, name) for at, name in enumerate("defg")]]
        answers = w.deliver(again)
    assert [answer is None for answer in answers] == [False, True, True, True, True]
    # A savepoint gives the rows after it a number of their own.
    numbers = postgres.rows("select count(distinct xmin::text) from {} where id in ('d', 'e', 'f', 'g')")
    assert numbers == [(1,)]


def test_rows_that_are_free_again_are_written_apart(served: Base):
    """Those set apart are one more transaction, in which each row that passes is kept."""
    served.make("id varchar(40) primary key, n integer")
    served.db.execute(f"insert into {served.table} values ('a', 0), ('b', 0)")
    with served.worker(columns=["n"], upsert=True) as w, holding(served, ["a"]):
        w.deliver([w.message({"n": 1}, "a"), w.message({"n": 1}, "c")])
        mixed = [
            apart(w, {"n": 2}, "a"),
            apart(w, {"n": 3}, "b"),
            w.message({"n": 4}, "d"),
            w.message("x", "e"),
        ]
        answers = w.deliver(mixed)
    assert [answer is None for answer in answers] == [False, True, True, False]
    assert answers[0].scope.startswith("a locked row")
    assert not answers[3].retryable
    assert sorted(served.rows()) == [("a", 0), ("b", 3), ("c", 1), ("d", 4)]


def test_rows_set_apart_do_not_pause_the_target(served: Base):
    """However many there are, they say nothing about the table; and the session waits as long as before."""
    served.make("id varchar(40) primary key, n integer")
    served.db.execute(f"insert into {served.table} values " + ", ".join(f"({at}, 0)" for at in range(5)))
    with served.worker(columns=["n"], upsert=True) as w, holding(served, range(5)):
        assert w.deliver([w.message({"n": 1}, "a"), w.message({"n": 1}, "0")])[0] is None
        answers = w.deliver([w.message({"n": 1}, "b"), *[apart(w, {"n": 1}, str(at)) for at in range(5)]])
        assert wait_of(served, w.connection.raw) == BOUNDED[served.kind][0]
    assert answers[0] is None
    assert [answer.scope for answer in answers[1:]] == [f"a locked row of {served.table}"] * 5


@pytest.mark.parametrize("again", [False, True])
def test_tables_of_one_channel(again: bool, served: Base):
    """A row of one table is locked: those of the other, and the rest of the first, are written."""
    other = f"{served.table}_b"
    served.make("id varchar(40) primary key, n integer")
    served.db.execute(f"create table {other} (id varchar(40) primary key, n integer)")
    served.db.execute(f"insert into {served.table} values ('a', 0)")
    options: dict[str, Any] = {"tables": {name: {"columns": ["n"]} for name in (served.table, other)}}
    with served.worker(**options, upsert=True) as w, holding(served, ["a"]):
        elsewhere: Any = w.message({"n": 2}, "c")
        elsewhere.options = w.handler.Options(**options, upsert=True, table=other)
        locked, row = w.message({"n": 1}, "a"), w.message({"n": 2}, "b")
        if again:
            assert w.deliver([locked, row])[1] is None
            locked = apart(w, {"n": 1}, "a")
        answers = w.deliver([locked, row, elsewhere])
    assert [answer is None for answer in answers] == [False, True, True]
    assert answers[0].scope == f"a locked row of {served.table}"
    assert sorted(served.rows()) == [("a", 0), ("b", 2)]
    assert served.db.execute(f"select id, n from {other}").data == [{"id": "c", "n": 2}]


def test_statements_of_the_application_wait_as_long_as_before(served: Base):
    """A callable payload gets the connection with the waits of its session; the next batch has its own."""
    served.make("id varchar(40), n integer")

    with served.worker(columns=["n"]) as w:
        bounded, at_first = BOUNDED[served.kind]
        assert wait_of(served, w.connection.raw) == bounded
        assert wait_of(served, w.handler.destination(w.connection)) == at_first
        assert w.publish([{"n": 1}]) == [None]
        assert wait_of(served, w.connection.raw) == bounded


def test_shorter_waits_of_the_user_stay(postgres: Base):
    """A lock_timeout of the URL that is shorter is kept."""
    postgres.make("id varchar(40), n integer")
    url = f"{postgres.url}?options=-c%20lock_timeout%3D100"
    with postgres.worker(url=url, columns=["n"]) as w:
        assert w.connection.raw.execute(LOOK["postgres"]).fetchone() == ("100ms",)


def test_sessions_of_a_pooler_keep_their_waits(postgres: Base):
    """Other clients get the session next: its settings are not ours."""
    require(PgBouncer)
    postgres.make("id varchar(40), n integer")
    with PgBouncer(postgres.server) as pooler, postgres.worker(url=pooler.url, columns=["n"]) as w:
        assert w.publish([{"n": 1}]) == [None]
        with psycopg.connect(pooler.url.replace("+psycopg", ""), autocommit=True) as other:
            assert other.execute(LOOK["postgres"]).fetchone() == ("0",)
