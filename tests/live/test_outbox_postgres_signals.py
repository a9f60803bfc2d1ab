"""Signal handlers that come to the outbox in PostgreSQL while their own thread is in the journal."""

from __future__ import annotations

from pathlib import Path

from interruptions import Point, every_point, interrupted_at
from outbox_databases import Database
from outbox_relays import TARGET, Relays, row, store
from outboxes import Backend, running, table_of

from rambla_py import OutboxBusyError
from rambla_py.outbox.postgres.journal import PostgresJournal

# Statements are where the thread has what others wait for.
MAKING = ("outbox/postgres/migration.py", "outbox/postgres/journal.py")
FILES = ("outbox/postgres/connection.py", "outbox/postgres/journal.py")


def test_a_read_at_every_point_of_a_read(relays: Relays) -> None:
    """It reads, or raises ``OutboxBusyError``: it does not wait for its own thread."""
    journal = relays.open()
    store(journal, row("m-1"))
    refused = []

    def inner() -> None:
        try:
            assert journal.accounts()[TARGET].pending == 1
        except OutboxBusyError as error:
            refused.append(error)

    def read(number: int) -> Point:
        with interrupted_at(number, FILES, inner) as point:
            assert journal.accounts()[TARGET].pending == 1
        return point

    assert every_point(read) > 5
    assert refused


def test_an_audit_at_every_point_of_a_publish(empty_postgres: Database, tmp_path: Path) -> None:
    """It has a connection of its own."""
    backend = Backend()
    with running(table_of(tmp_path, backend.handler(), {"url": empty_postgres.url})) as app:
        audits = []

        def publish(number: int) -> Point:
            with interrupted_at(number * 4, FILES, lambda: audits.append(app.outbox.audit())) as point:
                app.publish("orders", number)
            return point

        assert every_point(publish) > 2
        assert all(audit.balanced for audit in audits)


def test_a_reader_at_points_of_the_making_of_the_tables(empty_postgres: Database) -> None:
    """It makes them, or raises ``OutboxBusyError``: it does not wait for the transaction of its own thread."""
    refused = []

    def inner() -> None:
        reader = PostgresJournal(empty_postgres.url, read_timeout_s=2.0)
        try:
            reader.open(delivers=False)
        except OutboxBusyError as error:
            refused.append(error)
        finally:
            reader.close()

    def make(number: int) -> Point:
        empty_postgres.query("DROP SCHEMA public CASCADE")
        empty_postgres.query("CREATE SCHEMA public")
        journal = PostgresJournal(empty_postgres.url)
        with interrupted_at(number * 7, MAKING, inner) as point:
            journal.open(delivers=False)
        assert journal.accounts() == {}
        journal.close()
        return point

    assert every_point(make) > 2
    assert refused
