"""What a durable message costs in PostgreSQL, counted: neither the machine nor its load changes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from outbox_relays import TARGET, Relays, row, store

from rambla_py.outbox.journal import Changes
from rambla_py.outbox.postgres.journal import PostgresJournal
from rambla_py.testing.harness import until


@contextmanager
def statements(journal: PostgresJournal, file: Path) -> Iterator[list[str]]:
    """Collect the statements that a journal sends, as its connection records them."""
    sent: list[str] = []
    with file.open("w") as out:
        with journal._connection.using() as connection:
            connection.pgconn.trace(out.fileno())
        yield sent
        with journal._connection.using() as connection:
            connection.pgconn.untrace()
    sent += re.findall(r'\tF\t\d+\t(?:Query\t|Parse\t "") "\s*(\w+)', file.read_text())


def test_what_a_message_costs(relays: Relays, tmp_path: Path) -> None:
    """One transaction for a group of any size, and two changed rows for each message."""
    journal = relays.open(room_check_s=3_600)
    store(journal, row("before"))
    with statements(journal, tmp_path / "one") as one:
        store(journal, row("m"))
    groups = [[row(f"{group}/{at}", key=f"k{at}") for at in range(500)] for group in range(2)]
    with statements(journal, tmp_path / "many") as many:
        store(journal, *groups[0])
    assert len(journal.read(0, TARGET, 0, 1_000)) == 500
    with statements(journal, tmp_path / "removed") as removed:
        journal.write((), Changes(ended=[(one, "ok") for one in groups[0]]))
    store(journal, *groups[1])
    print(one, many, removed)
    assert one == many == ["BEGIN", "WITH", "COMMIT"]
    assert removed == ["BEGIN", "WITH", "COMMIT"]
    journal.close()
    query = "SELECT n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables WHERE relname = 'rambla_message'"
    assert until(lambda: relays.database.query(query) == [(1_002, 0, 500)]), relays.database.query(query)


def test_what_is_handed_out_is_recorded_without_a_sync(relays: Relays, tmp_path: Path) -> None:
    """By the statement that reads it, whose commit does not wait for the disk; those of messages do."""
    journal = relays.open()
    behind = "SELECT pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()"
    seen = []
    for number in range(10):
        store(journal, row(f"m{number}", key="k"))
        with statements(journal, tmp_path / f"{number}") as sent:
            assert len(journal.read(0, TARGET, 0, 1_000)) == 1
            journal.write((), Changes())
        assert sent in (["WITH"], ["SELECT", "WITH"])  # it looks for late rows now and then
        assert relays.database.query("SELECT count(*) FROM rambla_handed") == [(1,)]
        with journal._connection.using() as connection:
            seen += [*connection.execute(behind.encode()), *connection.execute(b"SHOW synchronous_commit")]
    assert (True,) in seen  # not always: a process of the server writes it at last
    assert set(seen) <= {(True,), (False,), ("on",)}
