"""outbox.publish on a SQLite database in memory: what publish checks is checked there as well."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy
from outbox_databases import shop

from rambla_py import Message, OptionError, OutboxError, SerializationError, UnknownChannelError, outbox

APP = shop(envelope=["key"])


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """A database with the tables, in a transaction."""
    with closing(sqlite3.connect(":memory:")) as made:
        made.executescript(outbox.ddl("sqlite"))
        made.execute("CREATE TABLE orders (id INTEGER)")
        made.execute("INSERT INTO orders VALUES (1)")
        yield made


def stored(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return connection.execute("SELECT target, id, key, form FROM rambla_arrival").fetchall()


def test_messages_are_read_as_publish_reads_them(connection: sqlite3.Connection) -> None:
    """Messages with options, envelopes, several channels; one id for all targets of a message."""
    first = outbox.publish(connection, "orders", Message(1, key="k"), app=APP)
    second = outbox.publish(connection, ["shop.orders"], {"message": 2, "key": "e"}, app=APP)
    assert stored(connection) == [
        ("shop.orders", first, "k", "value"),
        ("wire.orders", first, "k", "json"),
        ("shop.orders", second, "e", "value"),
    ]


@pytest.mark.parametrize(
    ("channel", "payload", "options", "error"),
    [
        ("ordrs", 1, {}, UnknownChannelError),
        ("orders", 1, {"tabel": "x"}, OptionError),
        ("orders", 1, {"callbacks": {"on_success": print}}, OptionError),
        ("mail", 1, {}, OptionError),
        ("shop.orders", {1, 2}, {}, SerializationError),
        ("orders", print, {}, SerializationError),
    ],
)
def test_nothing_is_stored_of_a_call_that_is_refused(
    connection: sqlite3.Connection,
    channel: str,
    payload: Any,
    options: dict[str, Any],
    error: type[Exception],
) -> None:
    """Also not of its other messages."""
    with pytest.raises(error):
        outbox.publish_many(connection, channel, [1, payload], app=APP, **options)
    assert stored(connection) == []


def test_no_payload_is_in_the_text_of_an_error() -> None:
    """SQLAlchemy's own text has the parameters of the statement."""
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.begin() as connection:
        driver = connection.connection.dbapi_connection
        assert driver is not None
        driver.executescript(outbox.ddl("sqlite"))
        refuse = (
            "CREATE TRIGGER refuse BEFORE INSERT ON rambla_message BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        connection.exec_driver_sql(refuse)
        with pytest.raises(OutboxError, match="IntegrityError: full") as caught:
            outbox.publish(connection, "shop.orders", {"card": "4111"}, app=APP)
    assert "4111" not in str(caught.value)
