"""Journals and relays on one PostgreSQL database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from outbox_databases import Database, shop

from rambla_py import outbox
from rambla_py.outbox.journal import Acceptance, Changes
from rambla_py.outbox.postgres.journal import PostgresJournal
from rambla_py.outbox.rows import Letter, Row

APP = shop()
TARGET = "shop.orders"


def row(id_: str, *, key: str | None = None, target: str = TARGET, **fields: Any) -> Row:
    """Return a sealed row."""
    made = Row(target=target, id=id_, key=key, accepted=1_000.0, payload=b"\x01", **fields)
    made.seal()
    return made


def letter(of: Row) -> Letter:
    """Return a dead letter of a row."""
    return Letter(
        row=of,
        died=1_001.0,
        reason="fatal",
        error="ValueError: no",
        errors=("ValueError",),
        handler="Shop",
        fingerprint="f1",
        attempts=2,
    )


class Relays:
    """Journals that a test opens on one database; those that are left open are closed after it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.opened: list[PostgresJournal] = []

    def open(self, url: str | None = None, *, delivers: bool = True, **options: Any) -> PostgresJournal:
        journal = PostgresJournal(url or self.database.url, **{"poll_s": 0, "room_check_s": 0, **options})
        self.opened.append(journal)
        journal.open(delivers=delivers)
        journal.claim()
        return journal

    def lapse(self, journal: PostgresJournal) -> None:
        """Let the leases of a relay be over, by the database's clock, as after a long pause of its process."""
        number = journal._leases.relay
        past = "now() - interval '1 minute'"
        self.database.query(f"UPDATE rambla_bucket SET until = {past} WHERE relay = {number}")
        self.database.query(f"UPDATE rambla_relay SET until = {past} WHERE number = {number}")

    def owners(self) -> list[int]:
        """Return how many buckets each relay has that has any, the largest number first."""
        query = "SELECT count(*) FROM rambla_bucket WHERE relay <> 0 GROUP BY relay ORDER BY 1 DESC"
        return [count for (count,) in self.database.query(query)]

    def difference(self) -> int:
        """Return by how much the account of ``TARGET`` does not add up."""
        return self.opened[0].accounts()[TARGET].difference


def store(journal: PostgresJournal, *rows: Row) -> None:
    """Store the rows of one call; raises why it was refused."""
    call = Acceptance(list(rows))
    journal.write([call], Changes())
    if call.error is not None:
        raise call.error


def ids(journal: PostgresJournal, target: str = TARGET, limit: int = 100) -> list[str]:
    """Return the ids of the rows that a journal hands out now."""
    return [one.id for one in journal.read(0, target, 0, limit)]


def publish(database: Database) -> None:
    """Publish in a transaction of an application."""
    with psycopg.connect(database.url) as connection:
        connection.execute("SELECT 1")
        outbox.publish(connection, TARGET, 1, app=APP)


@pytest.fixture
def relays(empty_postgres: Database) -> Iterator[Relays]:
    """Journals on a database of the test's own."""
    made = Relays(empty_postgres)
    yield made
    for journal in made.opened:
        journal.close()
