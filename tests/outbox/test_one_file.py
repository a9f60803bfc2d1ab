"""Several connections, apps and processes on one journal."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from outboxes import NAME, Backend, account, running, table_of
from waiting import wait_until

from rambla_py import OutboxCorruptError, OutboxError, OutboxSchemaError, Rambla
from rambla_py.outbox.journal import Acceptance, Changes
from rambla_py.outbox.outbox import Outbox
from rambla_py.outbox.rows import Row
from rambla_py.outbox.sqlite.journal import SqliteJournal
from rambla_py.outbox.sqlite.rescue import rescue

_COUNT = """
import sys
from pathlib import Path
from rambla_py.outbox.sqlite.journal import SqliteJournal
journal = SqliteJournal(Path(sys.argv[1]))
journal.open(delivers=False)
print(journal.totals().rows)
journal.close()
"""


def test_a_second_connection_does_not_give_up_the_locks_of_the_first(tmp_path: Path) -> None:
    """Otherwise the next process that closes the file removes the log that the first one writes to."""
    first, second = SqliteJournal(tmp_path / "outbox.db"), SqliteJournal(tmp_path / "outbox.db")
    first.open(delivers=True)
    _write(first, "one")
    second.open(delivers=False)
    assert second.totals().rows == 1
    second.close()
    assert _rows_in_another_process(tmp_path) == 1
    _write(first, "two")
    assert _rows_in_another_process(tmp_path) == 2
    first.close()


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    """It stays as it is."""
    (tmp_path / "outbox.db").write_text("a text")
    with pytest.raises(OutboxCorruptError, match="not a database"):
        Rambla(table_of(tmp_path, Backend().handler())).start()
    assert (tmp_path / "outbox.db").read_text() == "a text"


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        (
            "ALTER TABLE rambla_seen DROP COLUMN seq; ALTER TABLE rambla_owner DROP COLUMN adopter",
            "rambla_owner.adopter, rambla_seen.seq",
        ),
        ("DROP TABLE rambla_schema", "rambla_schema"),
    ],
    ids=["columns", "a table"],
)
def test_tables_that_lack_something_are_refused(tmp_path: Path, change: str, lacking: str) -> None:
    """The error names what; the file stays as it is, and its messages can be copied."""
    path = tmp_path / "outbox.db"
    journal = SqliteJournal(path)
    journal.open(delivers=False)
    _write(journal, "kept")
    journal.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"DROP TRIGGER rambla_arrive; {change}")
    with pytest.raises(OutboxSchemaError, match=rf"they lack {lacking}; copy .* rescue {path} NEW"):
        Rambla(table_of(tmp_path, Backend().handler())).start()
    assert rescue(path, tmp_path / "new.db").rows == 1
    assert _rows_in_another_process(tmp_path, "new.db") == 1


def test_a_start_that_fails_lets_go_of_what_it_took_over(tmp_path: Path) -> None:
    """Its rows can be adopted by another app, or by the next start in the same process."""
    backend = Backend()
    backend.gate.clear()
    app = Rambla(table_of(tmp_path, backend.handler())).start()
    app.publish("orders", 1)
    app.publish("orders", 2)
    free_soon(backend)
    app.stop(0.0)
    table = table_of(tmp_path, backend.handler())
    failing = Rambla(table)
    broken = _Broken(tmp_path / "outbox.db")
    failing._lifecycle._attach = lambda config, targets: _attached(config, targets(), broken)  # type: ignore[assignment]
    with pytest.raises(OutboxError, match="cannot be read"):
        failing.start()
    with running(table) as app:
        assert app.flush(10)
    assert set(backend.received) == {1, 2}  # the attempt that the stop interrupted may end last
    assert account(tmp_path).pending == 0


def test_an_owner_that_ends_while_it_is_claimed(tmp_path: Path) -> None:
    """It had no rows, and its entry is gone: the claim goes on with the others."""
    ended, other, claiming = (SqliteJournal(tmp_path / "outbox.db") for _ in range(3))
    ended.open(delivers=True)
    other.open(delivers=True)
    _write(other, "kept")
    claiming.open(delivers=True)
    number = ended.own
    lock = claiming._owners.lock

    def late(one: int) -> bool:
        if one == number:
            ended.close()
        return lock(one)

    claiming._owners.lock = late  # type: ignore[method-assign]  # the moment between its two steps
    claiming.claim()
    assert not (tmp_path / "outbox.db-owners" / str(number)).exists()
    other.close()
    assert [share.number for share in claiming.claim()] == [other.own]
    claiming.close()


def test_an_idle_app_adopts_what_another_one_left(tmp_path: Path) -> None:
    """It need not publish for that: every ``poll_s`` it looks for owners without a process."""
    one, two = Backend(), Backend()
    one.gate.clear()
    first = Rambla(table_of(tmp_path, one.handler(), {"poll_s": 0.1})).start()
    with running(table_of(tmp_path, two.handler(), {"poll_s": 0.1})) as second:
        for at in range(3):
            first.publish("orders", at)
        free_soon(one)
        first.stop(0.0)
        wait_until(lambda: account(tmp_path).pending == 0)
        assert second.flush(10)
        assert second.audit()[NAME].ok == len(two.received) >= 2
    assert sorted({*one.received, *two.received}) == [0, 1, 2]


class _Broken(SqliteJournal):
    """A journal whose rows cannot be counted."""

    def counts(self, share: int) -> dict[str, tuple[int, int]]:
        raise OutboxError(self.name, "it cannot be read")


def _attached(config: object, targets: object, journal: SqliteJournal) -> object:
    durable = [target for target in targets if target.config.durable]  # type: ignore[attr-defined]
    return Outbox(journal, config.rambla.outbox, durable)  # type: ignore[attr-defined]


def free_soon(backend: Backend) -> None:
    """Let the attempts that wait go on soon: a stop is not to wait for them."""
    threading.Timer(0.3, backend.gate.set).start()


def _write(journal: SqliteJournal, name: str) -> None:
    row = Row(NAME, name, None, 1.0, b"1")
    row.seal()
    journal.write([Acceptance([row])], Changes())


def _rows_in_another_process(folder: Path, name: str = "outbox.db") -> int:
    command = [sys.executable, "-c", _COUNT, str(folder / name)]
    return int(subprocess.run(command, check=True, capture_output=True).stdout)
