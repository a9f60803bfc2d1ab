"""Rescue of a damaged journal: what can be read is copied, the rest is counted."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest
from dead_files import accept, dead, row

from rambla_py.outbox.audit import audited
from rambla_py.outbox.errors import OutboxError
from rambla_py.outbox.journal import Changes
from rambla_py.outbox.rows import Row
from rambla_py.outbox.sqlite.journal import SqliteJournal
from rambla_py.outbox.sqlite.rescue import rescue

ROWS, DEAD = 2_000, 200
PAGE = 4_096


def made(path: Path) -> list[Row]:
    """Make a journal with rows and dead letters, all of it in the file itself."""
    journal = SqliteJournal(path)
    journal.open(delivers=True)
    rows = [row(f"m{at}", "amqp.orders", payload="x" * 100, given_id=True) for at in range(ROWS)]
    accept(journal, rows)
    journal.write([], Changes(dead=[dead(one) for one in rows[:DEAD]]))
    journal.close()
    return rows[DEAD:]


def pages_of(path: Path, table: str) -> list[int]:
    """Return the pages of a table, without its root."""
    with sqlite3.connect(path) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    connection.close()
    data = path.read_bytes()
    start = (root - 1) * PAGE
    count = int.from_bytes(data[start + 3 : start + 5], "big")
    assert data[start] == 5, "an interior page"
    cells = [data[start + 12 + 2 * at : start + 14 + 2 * at] for at in range(count)]
    places = [start + int.from_bytes(cell, "big") for cell in cells]
    return [int.from_bytes(data[place : place + 4], "big") for place in places]


def damage(path: Path, pages: list[int]) -> None:
    data = bytearray(path.read_bytes())
    for page in pages:
        data[(page - 1) * PAGE : page * PAGE] = random.Random(page).randbytes(PAGE)
    path.write_bytes(data)


def kept(path: Path) -> list[Row]:
    journal = SqliteJournal(path)
    journal.open(delivers=False)
    rows = journal.read(0, "amqp.orders", 0, 10_000)
    journal.close()
    return rows


def test_a_sound_journal_is_copied_whole(tmp_path: Path) -> None:
    """Rows, dead letters, accounts and numbers; the old file stays as it is, and the new one is private."""
    old, new = tmp_path / "old.db", tmp_path / "sub" / "new.db"
    rows = made(old)
    before = old.read_bytes()
    found = rescue(old, new)
    assert (found.rows, found.rows_lost, found.dead, found.dead_lost) == (ROWS - DEAD, 0, DEAD, 0)
    assert found.exact
    assert old.read_bytes() == before
    assert new.stat().st_mode & 0o777 == 0o600
    assert [(one.seq, one.id, one.payload) for one in kept(new)] == [
        (one.seq, one.id, one.payload) for one in rows
    ]
    journal = SqliteJournal(new)
    audit = audited(journal)
    assert audit.balanced
    assert audit.stored == ROWS
    accept(journal, [row("later")])
    assert kept(new)[-1].seq == ROWS + 1
    journal.close()


def test_what_is_only_in_the_log(tmp_path: Path) -> None:
    """Rows that a crash left in the write-ahead log are copied as well, and the log stays where it is."""
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    journal = SqliteJournal(old)
    journal.open(delivers=False)
    accept(journal, [row("1")])
    log = old.with_name("old.db-wal").read_bytes()
    assert rescue(old, new).rows == 1
    assert old.with_name("old.db-wal").read_bytes() == log
    journal.close()


def test_damaged_pages(tmp_path: Path) -> None:
    """Every row of the sound pages is there with the right content, and the audit names the others."""
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    rows = {one.seq: one for one in made(old)}
    pages = pages_of(old, "rambla_message")
    damage(old, [pages[0], pages[3], pages[4], pages[-1]])
    damage(old, pages_of(old, "rambla_dead")[:2])
    found = rescue(old, new)
    assert found.rows + found.rows_lost == ROWS - DEAD
    assert 0 < found.rows_lost < 400
    assert 0 < found.dead_lost <= DEAD - found.dead
    assert found.dead > 0
    copied = kept(new)
    assert len(copied) == found.rows
    assert all(one.sound and rows[one.seq].payload == one.payload for one in copied)
    journal = SqliteJournal(new)
    assert audited(journal).differences == [
        f"amqp.orders: {ROWS:,} accepted, {DEAD:,} ended, {found.rows:,} pending: {found.rows_lost:,} are missing"
    ]
    journal.close()


def test_lost_names_and_accounts(tmp_path: Path) -> None:
    """Rows of a target whose name is lost are kept under another one, and the count is an upper bound."""
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    made(old)
    with sqlite3.connect(old) as connection:
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_schema"))
    connection.close()
    damage(old, [roots["rambla_target"], roots["rambla_account"]])
    found = rescue(old, new)
    assert (found.rows, found.dead, found.exact) == (ROWS - DEAD, DEAD, False)
    journal = SqliteJournal(new)
    assert len(journal.read(0, "lost.1", 0, 10_000)) == ROWS - DEAD
    journal.close()


def test_what_is_refused(tmp_path: Path) -> None:
    """A new file that exists, an old one that is missing, in use, or something else."""
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    with pytest.raises(OutboxError, match="there is no such file"):
        rescue(old, new)
    old.write_text("no database " * 100)
    with pytest.raises(OutboxError, match="nothing of it can be read: file is not a database"):
        rescue(old, new)
    assert not new.exists()
    new.touch()
    with pytest.raises(OutboxError, match="this file exists"):
        rescue(old, new)
    new.unlink()
    old.unlink()
    journal = SqliteJournal(old)
    journal.open(delivers=True)
    with pytest.raises(OutboxError, match="a process is using it; stop it first"):
        rescue(old, new)
    journal.close()
    assert not new.exists()
