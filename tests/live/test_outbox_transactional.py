"""outbox.publish with each driver, on real databases: a message exists if and only if its transaction commits."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from outbox_databases import Database, shop
from outbox_drivers import DRIVERS, Driver, Psycopg, Sqlite3

from rambla_py import (
    DuplicateIdError,
    Message,
    NoTransactionError,
    OptionError,
    OutboxSchemaError,
    Rambla,
    outbox,
)
from rambla_py.handlers import memory
from rambla_py.outbox.codec import load_value

APP = shop()


@pytest.fixture(params=DRIVERS, ids=lambda kind: kind.__name__)
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    """Each driver, connected, with no transaction open."""
    database = request.getfixturevalue(
        "sqlite_database" if request.param.kind == "sqlite" else "postgres_database"
    )
    with request.param(database) as made:
        made.database = database
        yield made


@pytest.fixture(params=[Sqlite3, Psycopg], ids=lambda kind: kind.__name__)
def each(request: pytest.FixtureRequest) -> Iterator[Driver]:
    """A driver of each database."""
    database = request.getfixturevalue(
        "sqlite_database" if request.param.kind == "sqlite" else "postgres_database"
    )
    with request.param(database) as made:
        made.database = database
        yield made


def payloads(database: Database) -> list[Any]:
    return [load_value(bytes(payload)) for _, _, payload in database.messages]


def test_a_message_exists_once_its_transaction_commits(driver: Driver) -> None:
    """With what the application wrote; not before."""
    driver.begin()
    driver.execute("INSERT INTO orders VALUES (1)")
    message_id = driver.publish("shop.orders", {"id": 42}, app=APP, key="k")
    assert driver.database.messages == []
    driver.commit()
    assert [(target, id_) for target, id_, _ in driver.database.messages] == [("shop.orders", message_id)]
    assert payloads(driver.database) == [{"id": 42}]
    assert driver.database.accepted == {"shop.orders": 1}


def test_a_rollback_takes_the_message_along(driver: Driver) -> None:
    """Nothing is left, nor counted."""
    driver.begin()
    driver.execute("INSERT INTO orders VALUES (1)")
    driver.publish("shop.orders", {"id": 42}, app=APP)
    driver.rollback()
    assert driver.database.messages == []
    assert driver.database.accepted == {}


def test_a_savepoint_that_is_rolled_back_takes_its_messages_along(driver: Driver) -> None:
    """Those before and after it stay."""
    driver.begin()
    driver.execute("INSERT INTO orders VALUES (1)")
    driver.publish("shop.orders", 1, app=APP)
    driver.execute("SAVEPOINT inner_one")
    driver.publish_many("shop.orders", [2, 3], app=APP)
    driver.execute("ROLLBACK TO SAVEPOINT inner_one")
    driver.publish("shop.orders", 4, app=APP)
    driver.commit()
    assert payloads(driver.database) == [1, 4]
    assert driver.database.accepted == {"shop.orders": 2}


def test_many_messages_are_stored_by_a_call(driver: Driver) -> None:
    """Their ids come back in order; a fan-out stores one row for each target, with one id."""
    driver.begin()
    driver.execute("INSERT INTO orders VALUES (1)")
    ids = driver.publish_many("orders", ["a", "b"], app=APP, headers={"x": 1})
    driver.commit()
    assert [(target, id_, bytes(payload)) for target, id_, payload in driver.database.messages] == [
        ("shop.orders", ids[0], b"\xa1a"),
        ("wire.orders", ids[0], b"a"),
        ("shop.orders", ids[1], b"\xa1b"),
        ("wire.orders", ids[1], b"b"),
    ]
    assert driver.database.accepted == {"shop.orders": 2, "wire.orders": 2}


def test_without_a_transaction_nothing_is_published(driver: Driver) -> None:
    """On a connection that commits by itself the message would outlive what it belongs to."""
    with pytest.raises(NoTransactionError, match="inside of a transaction"):
        driver.publish("shop.orders", 1, app=APP)
    assert driver.database.messages == []


def test_a_closed_connection_is_refused(driver: Driver) -> None:
    """With the same error."""
    driver.close()
    with pytest.raises(NoTransactionError):
        driver.publish("shop.orders", 1, app=APP)


def test_a_failed_transaction_is_refused(driver: Driver) -> None:
    """PostgreSQL takes nothing in it any more; SQLite goes on after a failed statement."""
    if driver.kind == "sqlite":
        return
    driver.begin()
    with pytest.raises(Exception, match="nonsense"):
        driver.execute("SELECT nonsense")
    with pytest.raises(NoTransactionError):
        driver.publish("shop.orders", 1, app=APP)


def test_a_given_id_is_stored_once(driver: Driver) -> None:
    """In one transaction and across them; a second one counts as a duplicate."""
    for _ in range(2):
        driver.begin()
        driver.execute("INSERT INTO orders VALUES (1)")
        assert driver.publish("shop.orders", 1, app=APP, id="m-1") == "m-1"
        assert driver.publish("shop.orders", 1, app=APP, id="m-1") == "m-1"
        driver.publish("shop.orders", 1, app=APP, id="m-2")
        driver.commit()
    assert [id_ for _, id_, _ in driver.database.messages] == ["m-1", "m-2"]
    assert driver.database.accepted == {"shop.orders": 2}
    assert driver.database.duplicates == {"shop.orders": 4}


def test_a_given_id_of_another_payload_is_refused(driver: Driver) -> None:
    """With nothing stored of the call; the transaction can be used further."""
    driver.begin()
    driver.execute("INSERT INTO orders VALUES (1)")
    driver.publish("shop.orders", 1, app=APP, id="m-1")
    with pytest.raises(DuplicateIdError, match="m-1"):
        driver.publish("shop.orders", 2, app=APP, id="m-1")
    driver.publish("shop.orders", 3, app=APP)
    driver.commit()
    assert payloads(driver.database) == [1, 3]


def test_a_refused_id_leaves_nothing_of_its_call(each: Driver) -> None:
    """Nor entries of the duplicate window for the others of the call."""
    each.begin()
    each.publish("shop.orders", 1, app=APP, id="m-1")
    with pytest.raises(DuplicateIdError, match="m-1"):
        each.publish_many("shop.orders", [Message(2, id="m-2"), Message(2, id="m-1"), 3], app=APP)
    each.publish("shop.orders", 2, app=APP, id="m-2")
    each.commit()
    assert payloads(each.database) == [1, 2]


def test_an_entry_of_the_window_that_has_lapsed_is_replaced(each: Driver) -> None:
    """The id is new again, with any payload."""
    each.begin()
    each.publish("shop.orders", 1, app=APP, id="m-1")
    each.commit()
    each.database.query("UPDATE rambla_seen SET status = 'ok', until = 1000")
    each.begin()
    each.publish("shop.orders", 2, app=APP, id="m-1")
    each.commit()
    assert payloads(each.database) == [1, 2]
    assert each.database.query("SELECT status, until FROM rambla_seen") == [(None, None)]


def test_five_thousand_messages_in_a_call(each: Driver) -> None:
    """Also where a statement has a limit of parameters."""
    each.begin()
    ids = each.publish_many("shop.orders", range(5_000), app=APP)
    each.commit()
    assert [id_ for _, id_, _ in each.database.messages] == ids
    assert each.database.accepted == {"shop.orders": 5_000}


def test_what_was_given_is_in_the_row(each: Driver) -> None:
    """A delay as a due time, the options as given, NULL for what is not there."""
    each.begin()
    each.publish("shop.orders", 1, app=APP, delay_s=30, table="orders", key="k")
    each.publish("shop.orders", 2, app=APP)
    each.commit()
    table = "rambla_arrival" if each.kind == "sqlite" else "rambla_message"
    found = each.database.query(f"SELECT round(due - accepted), wait_s, options, key FROM {table}")
    (first, second) = found
    assert first[:2] == (30.0, 30.0)
    assert load_value(bytes(first[2])) == {"delay_s": 30, "table": "orders"}
    assert first[3] == "k"
    assert second == (None, 0.0, None, None)


def test_a_channel_that_is_not_durable_is_refused(each: Driver) -> None:
    """It is named, with what to set."""
    each.begin()
    with pytest.raises(OptionError, match=r"plain.mail: is false; .* durable = true"):
        each.publish("mail", 1, app=APP)


def test_a_database_without_the_tables_is_refused(tmp_path: Any, empty_postgres: Database) -> None:
    """The error names the command that makes them."""
    for database, kind in ((Database("sqlite", str(tmp_path / "e.db")), Sqlite3), (empty_postgres, Psycopg)):
        with kind(database) as driver:
            driver.begin()
            with pytest.raises(OutboxSchemaError, match="rambla outbox init"):
                driver.publish("shop.orders", 1, app=APP)
            driver.rollback()


class CountedSqlite(sqlite3.Connection):
    """Counts its statements."""

    sent = 0

    def cursor(self, *args: Any) -> sqlite3.Cursor:  # type: ignore[override]
        counted = self

        class Cursor(sqlite3.Cursor):
            def execute(self, *args: Any) -> sqlite3.Cursor:
                counted.sent += 1
                return super().execute(*args)

        return super().cursor(Cursor)


class CountedPsycopg(psycopg.Cursor[Any]):
    """Counts its statements."""

    sent: list[Any] = []

    def execute(self, *args: Any, **options: Any) -> Any:
        self.sent.append(args)
        return super().execute(*args, **options)


def test_one_statement_is_sent_for_a_call(sqlite_database: Database, postgres_database: Database) -> None:
    """Of any number of messages; also with ids that were given."""
    with closing(sqlite3.connect(sqlite_database.url, factory=CountedSqlite)) as connection:
        connection.execute("INSERT INTO orders VALUES (1)")
        connection.sent = 0
        outbox.publish_many(connection, "orders", [1, 2, 3], app=APP)
        outbox.publish(connection, "orders", 1, app=APP, id="m-1")
        assert connection.sent == 2
    with psycopg.connect(postgres_database.url) as other:
        other.execute("SELECT 1")
        other.cursor_factory = CountedPsycopg
        CountedPsycopg.sent.clear()
        outbox.publish_many(other, "orders", [1, 2, 3], app=APP)
        outbox.publish(other, "orders", 1, app=APP, id="m-1")
        assert len(CountedPsycopg.sent) == 2


def test_only_a_relay_that_is_idle_is_notified(postgres_database: Database) -> None:
    """A NOTIFY in each transaction would make the commits of the database queue."""
    with (
        closing(psycopg.connect(postgres_database.url, autocommit=True)) as listener,
        Psycopg(postgres_database) as driver,
    ):
        listener.execute("LISTEN rambla_outbox")

        def publish() -> int:
            driver.begin()
            driver.publish("shop.orders", 1, app=APP)
            driver.commit()
            return len(list(listener.notifies(timeout=0.2)))

        postgres_database.query("INSERT INTO rambla_relay (until) VALUES (now())")
        assert publish() == 0
        postgres_database.query("UPDATE rambla_relay SET idle = true")
        assert publish() == 1


def test_an_app_delivers_what_transactions_stored(sqlite_database: Database) -> None:
    """An app with the outbox in this file finds it, without having been notified."""
    table = {
        "rambla": {"outbox": {"url": f"sqlite:///{sqlite_database.url}", "poll_s": 0.05}},
        "memory": {
            "connections": {"c": {"name": sqlite_database.url}},
            "channels": {"orders": {"connection": "c", "durable": True}},
        },
    }
    with Rambla(table) as app, closing(sqlite3.connect(sqlite_database.url)) as connection:
        ended = threading.Event()
        app.listen(lambda event: ended.set() if event.kind == "outcome" else None)
        connection.execute("INSERT INTO orders VALUES (1)")
        message_id = outbox.publish(connection, "orders", {"id": 42}, app=app)
        connection.commit()
        assert ended.wait(10)
        (sent,) = memory.store(sqlite_database.url).messages()
    assert (sent.id, sent.payload) == (message_id, {"id": 42})
    assert sqlite_database.messages == []
