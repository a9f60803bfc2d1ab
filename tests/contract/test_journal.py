"""What every journal does with rows: in SQLite, in PostgreSQL, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from outbox_databases import Database

from rambla_py import DuplicateIdError, OutboxFullError
from rambla_py.outbox.journal import Acceptance, Changes, Journal
from rambla_py.outbox.memory import MemoryJournal, MemoryTables
from rambla_py.outbox.postgres.journal import PostgresJournal
from rambla_py.outbox.rows import Letter, Progress, Row
from rambla_py.outbox.sqlite.journal import SqliteJournal


def row(id_: str, payload: bytes = b"\x01", *, target: str = "shop.orders", **fields: Any) -> Row:
    """Return a sealed row."""
    made = Row(
        target=target, id=id_, key=fields.pop("key", None), accepted=1_000.0, payload=payload, **fields
    )
    made.seal()
    return made


def given(id_: str, payload: bytes = b"\x01", **fields: Any) -> Row:
    """Return a row with a given id."""
    return row(id_, payload, given_id=True, **fields)


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


def accept(journal: Journal, *rows: Row) -> Acceptance:
    """Store the rows of one call."""
    acceptance = Acceptance(list(rows))
    journal.write([acceptance], Changes())
    return acceptance


def found(journal: Journal, target: str = "shop.orders") -> list[Row]:
    """Return the rows that a journal takes over for a target, by number."""
    rows: list[Row] = []
    for share in journal.claim():
        deaths = share.deaths.get(target, ())
        if target in journal.counts(share.number):
            after = 0
            while some := journal.read(share.number, target, after, 2):
                journal.write((), Changes(cursors={(share.number, target): some[-1].seq}))
                for one in some:
                    one.crashes += sum(one.seq <= upto for upto in deaths)
                rows += some
                after = some[-1].seq
    return sorted(rows, key=lambda one: one.seq)


def ids(rows: list[Row]) -> list[str]:
    return [one.id for one in rows]


class Clock:
    """The time that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class JournalContract:
    """The tests; a subclass opens journals on the same tables, and lets one die."""

    @pytest.fixture(autouse=True)
    def _prepare(self, request: pytest.FixtureRequest) -> Iterator[None]:
        self.clock, self.opened = Clock(), []
        self.prepare(request)
        yield
        for journal in self.opened:
            journal.close()

    def prepare(self, request: pytest.FixtureRequest) -> None:
        raise NotImplementedError

    def make(self, **limits: Any) -> Any:
        raise NotImplementedError

    def kill(self, journal: Any) -> None:
        """Let a journal end as with its process."""
        raise NotImplementedError

    def open(self, *, delivers: bool = True, **limits: Any) -> Any:
        journal = self.make(**limits)
        journal.open(delivers=delivers)
        if delivers:
            journal.claim()
        self.opened.append(journal)
        return journal

    def close(self, journal: Any) -> None:
        journal.close()
        self.opened.remove(journal)

    def reopened(self, journal: Any) -> Any:
        """Close a journal, and return another one on its tables, which has claimed nothing yet."""
        self.close(journal)
        other = self.make()
        other.open(delivers=True)
        self.opened.append(other)
        return other

    def test_rows_come_back_in_the_next_run(self) -> None:
        """In order, with everything that was stored."""
        first = self.open()
        whole = row(
            "m-2", b"\x00\xff", options=b"\x80", due=1_030.0, wait_s=30.0, form="bytes", progress=b"\x91\x01"
        )
        accept(first, row("m-1"), whole)
        accept(first, row("m-3"))
        back = found(self.reopened(first))
        assert ids(back) == ["m-1", "m-2", "m-3"]
        assert [one.seq for one in back] == sorted(one.seq for one in back)
        for name in ("payload", "options", "due", "wait_s", "form", "progress", "crc", "accepted", "key"):
            assert getattr(back[1], name) == getattr(whole, name), name
        assert back[1].sound

    def test_numbers_grow_and_are_never_used_again(self) -> None:
        """A late removal must not remove another message."""
        first = self.open()
        one = row("m-1")
        accept(first, one)
        first.write((), Changes(ended=[(one, "ok")]))
        second = self.reopened(first)
        second.claim()
        other = row("m-2")
        accept(second, other)
        assert other.seq > one.seq > 0

    def test_rows_that_have_ended_are_removed_and_counted(self) -> None:
        """Under their status; what is left is pending, and the account adds up."""
        journal = self.open()
        rows = [row(f"m-{number}") for number in range(4)]
        accept(journal, *rows)
        journal.write((), Changes(ended=[(rows[0], "ok"), (rows[1], "expired"), (rows[2], "ok")]))
        account = journal.accounts()["shop.orders"]
        assert (account.accepted, account.ok, account.expired, account.pending) == (4, 2, 1, 1)
        assert account.difference == 0
        assert ids(found(self.reopened(journal))) == ["m-3"]

    def test_a_row_is_counted_once(self) -> None:
        """Its second removal finds nothing."""
        journal = self.open()
        one = row("m-1")
        accept(journal, one)
        for _ in range(2):
            journal.write((), Changes(ended=[(one, "ok")]))
        account = journal.accounts()["shop.orders"]
        assert (account.accepted, account.ok, account.difference) == (1, 1, 0)

    def test_a_dead_letter_replaces_its_row(self) -> None:
        """In one transaction; it counts as fatal and as dead."""
        journal = self.open()
        one, other = row("m-1"), row("m-2")
        accept(journal, one, other)
        journal.write((), Changes(dead=[letter(one)]))
        account = journal.accounts()["shop.orders"]
        assert (account.fatal, account.dead, account.pending, account.difference) == (1, 1, 1, 0)
        totals = journal.totals()
        assert (totals.rows, totals.dead, totals.oldest) == (1, 1, 1_000.0)
        assert ids(found(self.reopened(journal))) == ["m-2"]

    def test_a_row_that_is_gone_makes_no_dead_letter(self) -> None:
        """It would be one more than was accepted."""
        journal = self.open()
        one = row("m-1")
        accept(journal, one)
        journal.write((), Changes(ended=[(one, "ok")]))
        journal.write((), Changes(dead=[letter(one)]))
        account = journal.accounts()["shop.orders"]
        assert (account.fatal, account.dead, account.difference) == (0, 0, 0)

    def test_progress_survives(self) -> None:
        """Attempts, the due time, and that an attempt has begun."""
        journal = self.open()
        one, other = row("m-1"), row("m-2")
        accept(journal, one, other)
        progress = Progress(attempts=3, failures=2, left=1).dump()
        journal.write((), Changes(progress={one.seq: (progress, 1_060.0, 60.0)}, started=[other.seq]))
        first, second = found(self.reopened(journal))
        assert (first.progress, first.due, first.wait_s, first.started) == (progress, 1_060.0, 60.0, False)
        assert (second.progress, second.started) == (None, True)

    def test_new_rows_and_removals_are_one_transaction(self) -> None:
        """A call that is refused by itself leaves the others alone."""
        journal = self.open()
        one = given("m-1")
        accept(journal, one)
        fine, refused = Acceptance([row("m-2")]), Acceptance([row("m-3"), given("m-1", b"\x02")])
        journal.write([refused, fine], Changes(ended=[(one, "ok")]))
        assert isinstance(refused.error, DuplicateIdError)
        assert fine.error is None
        assert ids(found(self.reopened(journal))) == ["m-2"]

    def test_a_given_id_is_stored_once(self) -> None:
        """A second row is a duplicate, with the status of the first."""
        journal = self.open()
        one = given("m-1")
        accept(journal, one)
        again = accept(journal, given("m-1"), row("m-2"))
        assert [(duplicate.id, status) for duplicate, status in again.duplicates] == [("m-1", None)]
        assert ids(again.rows) == ["m-2"]
        journal.write((), Changes(ended=[(one, "ok")]))
        late = accept(journal, given("m-1"))
        assert [status for _, status in late.duplicates] == ["ok"]
        account = journal.accounts()["shop.orders"]
        assert (account.accepted, account.duplicates, account.difference) == (2, 2, 0)

    def test_the_same_id_twice_in_a_call_is_stored_once(self) -> None:
        """As in two calls."""
        journal = self.open()
        call = accept(journal, given("m-1"), given("m-1"), given("m-1", target="shop.other"))
        assert [one.target for one in call.rows] == ["shop.orders", "shop.other"]
        assert len(call.duplicates) == 1

    def test_an_id_of_a_refused_call_is_free(self) -> None:
        """Nothing of the call was stored."""
        journal = self.open()
        accept(journal, given("m-1"))
        refused = accept(journal, given("m-2"), given("m-1", b"\x02"))
        assert isinstance(refused.error, DuplicateIdError)
        assert accept(journal, given("m-2", b"\x03")).duplicates == []

    def test_an_id_is_new_after_the_window(self) -> None:
        """Which begins when its message has ended, and not before."""
        journal = self.open()
        one = given("m-1")
        accept(journal, one)
        self.clock.now += 200_000
        assert len(accept(journal, given("m-1")).duplicates) == 1
        journal.write((), Changes(ended=[(one, "ok")]))
        self.clock.now += 86_399
        assert len(accept(journal, given("m-1")).duplicates) == 1
        self.clock.now += 2
        assert accept(journal, given("m-1", b"\x02")).duplicates == []

    def test_a_full_journal_refuses_rows_and_removes_them(self) -> None:
        """Room comes from removals only."""
        journal = self.open(max_rows=2)
        rows = [row("m-1"), row("m-2")]
        accept(journal, *rows)
        error = accept(journal, row("m-3")).error
        assert isinstance(error, OutboxFullError)
        assert "2 of max_rows = 2" in str(error)
        journal.write((), Changes(ended=[(rows[0], "ok")]))
        assert accept(journal, row("m-4")).error is None

    def test_a_call_that_does_not_fit_is_refused_by_itself(self) -> None:
        """Others of its commit are stored, and so are removals."""
        journal = self.open(max_rows=4)
        first = row("m-0")
        accept(journal, first, row("m-1"))
        sizes = ((1, 3), (2, 2), (3, 9))
        calls = [Acceptance([row(f"{at}-{part}") for part in range(size)]) for at, size in sizes]
        journal.write(calls, Changes())
        assert [type(call.error) for call in calls] == [OutboxFullError, type(None), OutboxFullError]
        assert "a call of 9 messages" in str(calls[2].error)
        full = Acceptance([row("m-4"), row("m-5")])
        journal.write([full], Changes(ended=[(first, "ok")]))
        assert isinstance(full.error, OutboxFullError)
        account = journal.accounts()["shop.orders"]
        assert (account.accepted, account.ok, account.pending) == (4, 1, 3)

    def test_a_call_that_is_refused_replaces_nothing(self) -> None:
        """The rows that it was to replace stay: else nothing would be left of their messages."""
        journal = self.open(max_rows=1)
        first = row("m-1")
        accept(journal, first)
        refused = Acceptance([row("m-2"), row("m-3")], replaces=[(first, "fatal")])
        journal.write([refused], Changes())
        assert isinstance(refused.error, OutboxFullError)
        assert journal.accounts()["shop.orders"].pending == 1

    def test_a_row_that_replaces_another_needs_no_room(self) -> None:
        """A full journal holds as many rows as before."""
        journal = self.open(max_rows=1)
        first = row("m-1")
        accept(journal, first)
        instead = Acceptance([row("m-2", target="shop.other")], replaces=[(first, "fatal")])
        journal.write([instead], Changes())
        assert instead.error is None
        accounts = journal.accounts()
        assert (accounts["shop.orders"].fatal, accounts["shop.other"].pending) == (1, 1)

    def test_a_row_that_is_stored_already_needs_no_room(self) -> None:
        """A full journal knows it; of a call with another row, which does not fit, nothing is recorded."""
        journal = self.open(max_rows=1)
        accept(journal, given("m-1"))
        refused = accept(journal, given("m-1"), given("m-2"))
        assert isinstance(refused.error, OutboxFullError)
        again = accept(journal, given("m-1"))
        assert again.error is None
        assert [one.id for one, _ in again.duplicates] == ["m-1"]
        account = journal.accounts()["shop.orders"]
        assert (account.accepted, account.duplicates) == (1, 1)
        assert isinstance(accept(journal, given("m-1", b"\x02")).error, DuplicateIdError)

    def test_rows_of_a_living_process_are_not_taken_over(self) -> None:
        """Another one finds nothing to claim."""
        journal, other = self.open(), self.open()
        accept(journal, row("m-1"))
        assert found(other) == []
        assert other.accounts()["shop.orders"].pending == 1

    def test_rows_of_a_dead_process_are_taken_over_once(self) -> None:
        """With how many processes died that had them."""
        journal = self.open()
        accept(journal, row("m-1"), row("m-2"))
        self.kill(journal)
        other = self.open_unclaimed()
        back = found(other)
        assert [(one.id, one.crashes) for one in back] == [("m-1", 1), ("m-2", 1)]
        assert found(other) == []
        other.write((), Changes(ended=[(one, "ok") for one in back]))
        assert other.accounts()["shop.orders"].difference == 0
        assert other.accounts()["shop.orders"].ok == 2

    def test_an_orderly_end_is_no_death(self) -> None:
        """Rows that were in flight then have no crash."""
        back = found(self.reopened(self.with_row()))
        assert [(one.id, one.crashes) for one in back] == [("m-1", 0)]

    def test_deaths_add_up(self) -> None:
        """Over the processes that had a row."""
        self.kill(self.with_row())
        second = self.open_unclaimed()
        assert len(found(second)) == 1
        self.kill(second)
        (again,) = found(self.open_unclaimed())
        assert again.crashes == 2

    def test_a_process_that_only_writes_leaves_its_rows_to_others(self) -> None:
        """They are found by one that delivers."""
        writer = self.open(delivers=False)
        accept(writer, row("m-1"), row("m-2", key="k"))
        assert writer.own == 0
        assert sorted(ids(found(self.open_unclaimed()))) == ["m-1", "m-2"]

    def test_targets_are_read_apart(self) -> None:
        """Each has its rows and its account."""
        journal = self.open()
        accept(journal, row("m-1"), row("m-2", target="shop.other"), row("m-3"))
        other = self.reopened(journal)
        (share, *_) = [one for one in other.claim() if other.counts(one.number)]
        assert ids(other.read(share.number, "shop.other", 0, 10)) == ["m-2"]
        assert {name: account.accepted for name, account in other.accounts().items()} == {
            "shop.orders": 2,
            "shop.other": 1,
        }

    def open_unclaimed(self) -> Any:
        journal = self.make()
        journal.open(delivers=True)
        self.opened.append(journal)
        return journal

    def with_row(self) -> Any:
        journal = self.open()
        accept(journal, row("m-1"))
        return journal


class TestMemory(JournalContract):
    """The journal of tests."""

    def prepare(self, request: pytest.FixtureRequest) -> None:
        self.tables = MemoryTables()

    def make(self, **limits: Any) -> MemoryJournal:
        return MemoryJournal(self.tables, clock=self.clock, **limits)

    def kill(self, journal: MemoryJournal) -> None:
        self.close(journal)

    test_rows_of_a_dead_process_are_taken_over_once = None
    test_deaths_add_up = None


class TestSqlite(JournalContract):
    """The journal in a file."""

    def prepare(self, request: pytest.FixtureRequest) -> None:
        self.path: Path = request.getfixturevalue("tmp_path") / "outbox.db"

    def make(self, **limits: Any) -> SqliteJournal:
        return SqliteJournal(self.path, clock=self.clock, reserve_bytes=0, **limits)

    def kill(self, journal: SqliteJournal) -> None:
        for number in list(journal._owners.mine):  # the locks end with a process, and nothing else does
            journal._owners.unlock(number)
        self.opened.remove(journal)
        journal._file.close()


class TestPostgres(JournalContract):
    """The journal in a database with a server."""

    def prepare(self, request: pytest.FixtureRequest) -> None:
        self.database: Database = request.getfixturevalue("empty_postgres")

    def make(self, **limits: Any) -> PostgresJournal:
        return PostgresJournal(self.database.url, clock=self.clock, poll_s=0, room_check_s=0, **limits)

    def kill(self, journal: PostgresJournal) -> None:
        self.opened.remove(journal)
        journal._listener.stop()
        journal._connection.close()
        self.database.query(
            f"UPDATE rambla_bucket SET until = now() - interval '1 minute' WHERE relay = {journal._leases.relay};"
            f"UPDATE rambla_relay SET until = now() - interval '1 minute' WHERE number = {journal._leases.relay}"
        )
