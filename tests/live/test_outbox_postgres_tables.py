"""The tables and accounts of the journal in PostgreSQL."""

from __future__ import annotations

import os
import re
from contextlib import closing

import psycopg
import pytest
import sqlalchemy
from outbox_databases import shop
from outbox_relays import TARGET, Relays, letter, publish, row, store

from rambla_py import OutboxError, OutboxFullError, OutboxSchemaError, outbox
from rambla_py.outbox.journal import Changes
from rambla_py.outbox.postgres.survey import Survey, survey
from rambla_py.outbox.rows import Row
from rambla_py.testing.databases import PostgresServer

APP = shop()


def test_a_newer_version_of_the_tables_is_refused(relays: Relays) -> None:
    """With both versions."""
    relays.open().close()
    relays.database.query("UPDATE rambla_schema SET version = 2")
    with pytest.raises(OutboxSchemaError, match="version 2, and this release knows 1"):
        relays.open()


def test_tables_of_the_applications_migrations_are_used(relays: Relays) -> None:
    """What they hold at first is written by the first relay."""
    metadata = sqlalchemy.MetaData()
    outbox.tables(metadata)
    engine = sqlalchemy.create_engine(f"postgresql+psycopg:{relays.database.url.partition(':')[2]}")
    metadata.create_all(engine)
    engine.dispose()
    journal = relays.open()
    assert relays.owners() == [64]
    store(journal, row("m-1"))
    assert relays.database.query("SELECT version FROM rambla_schema") == [(1,)]


def test_a_role_that_may_not_make_tables_is_told_to_init(
    relays: Relays, postgres_server: PostgresServer
) -> None:
    """Where there are none."""
    role = relays.database.url.rpartition("/")[2]
    relays.database.query(f"CREATE ROLE {role} LOGIN PASSWORD 's3cret'")
    try:
        with pytest.raises(OutboxSchemaError, match="rambla outbox init"):
            relays.open(relays.database.url.replace(f"{postgres_server.user}:", f"{role}:"))
    finally:
        relays.database.query(f"DROP ROLE {role}")


def test_what_transactions_accepted_is_added_up(relays: Relays) -> None:
    """Their rows go into the relay's account; the sum stays."""
    journal = relays.open(monotonic=iter(range(0, 10_000, 100)).__next__)
    for _ in range(3):
        publish(relays.database)
    assert journal.accounts()[TARGET].accepted == 3
    journal.claim()
    assert relays.database.query("SELECT count(*) FROM rambla_accepted") == [(0,)]
    assert journal.accounts()[TARGET].accepted == 3
    assert relays.difference() == 0


def test_accounts_of_relays_that_have_gone_are_folded(relays: Relays) -> None:
    """There are no more rows than relays that live, and one for the past."""
    for number in range(3):
        journal = relays.open()
        one = row(f"m-{number}")
        store(journal, one)
        journal.write((), Changes(ended=[(one, "ok")]))
        journal.close()
    journal = relays.open()
    assert relays.database.query("SELECT relay, count FROM rambla_account WHERE name = 'ok'") == [(0, 3)]
    assert journal.accounts()[TARGET].difference == 0


def test_max_bytes_bounds_what_is_accepted(relays: Relays) -> None:
    """Space that removed rows left does not count."""
    journal = relays.open(max_bytes=200_000)
    rows = [Row(TARGET, f"m-{number}", None, 1.0, os.urandom(10_000)) for number in range(20)]
    store(journal, *rows)
    with pytest.raises(OutboxFullError, match="max_bytes = 200000"):
        store(journal, row("one more"))
    journal.write((), Changes(ended=[(one, "ok") for one in rows]))
    store(journal, row("fits"))


def test_a_survey_changes_nothing(relays: Relays) -> None:
    """It finds that there are no tables; then that there are, and which transactions are old."""
    url = relays.database.url
    assert survey(url) == Survey(False, ())
    assert survey(url) == Survey(False, ())
    relays.open(delivers=False)
    assert survey(url) == Survey(True, ())
    with psycopg.connect(url, application_name="reports") as reader:
        reader.execute("SELECT 1")
        assert survey(url) == Survey(True, ())
        (warning,) = survey(url, old_s=0).warnings
    assert re.fullmatch(r"process \d+ of 'reports' has had a transaction open for 0 minutes .*", warning)
    relays.database.query("UPDATE rambla_schema SET version = 2")
    with pytest.raises(OutboxSchemaError):
        survey(url)
    with pytest.raises(OutboxError):
        survey(url.replace("s3cret", "wrong"))


def test_transactions_do_not_wait_for_one_another(relays: Relays) -> None:
    """None queues for a counter until another one has committed."""
    relays.open()
    with (
        closing(psycopg.connect(relays.database.url)) as first,
        psycopg.connect(relays.database.url) as second,
    ):
        for connection in (first, second):
            connection.execute("SET lock_timeout = '2s'")
            outbox.publish(connection, TARGET, 1, app=APP)
        second.commit()
        first.commit()
    assert relays.opened[0].accounts()[TARGET].accepted == 2


def test_a_removal_looks_up_its_rows_only(relays: Relays) -> None:
    """And not those of its buckets, of which there may be a million."""
    journal = relays.open()
    relays.database.query(
        "INSERT INTO rambla_message (bucket, target, id, accepted, payload, crc) "
        "SELECT number % 64, 'shop.big', number, 1, '', 0 FROM generate_series(1, 50000) AS number"
    )
    rows = [row(f"m-{number}") for number in range(500)]
    store(journal, *rows)
    plan: list[str] = []
    with journal._connection.using() as connection:
        connection.execute("LOAD 'auto_explain'")
        connection.execute("SET auto_explain.log_min_duration = 0; SET auto_explain.log_level = notice")
        connection.execute("SET client_min_messages = notice")
        connection.add_notice_handler(lambda notice: plan.append(notice.message_primary or ""))
    for changes in (
        Changes(progress={rows[0].seq: (b"\x90", None, 0.0)}, started=[rows[1].seq]),
        Changes(dead=[letter(rows[0])]),
        Changes(ended=[(one, "ok") for one in rows[1:]]),
    ):
        plan.clear()
        journal.write((), changes)
        used = "".join(plan)
        assert "rambla_message_pkey" in used
        assert "rambla_message_head" not in used
        assert "Seq Scan on rambla_message" not in used
