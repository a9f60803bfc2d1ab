"""Batches of the sql handler that are written row by row, on a table in memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.handlers.sql.batch import write_batch
from rambla_py.handlers.sql.row_by_row import write_each
from rambla_py.sql.errors import SqlError, SqlIntegrityError, SqlStatementError, SqlUnavailableError


class Table:
    """A table with locked rows and refused ones, ``late`` ones refused at the commit.

    With ``undoes`` an error ends the whole transaction. It is its own writer, and its own ``LockWaits``.
    """

    def __init__(
        self,
        locked: set[int],
        refused: set[int] = frozenset(),  # type: ignore[assignment]  # never changed
        late: set[int] = frozenset(),  # type: ignore[assignment]  # as above
        *,
        undoes: bool = False,
        whole: bool = False,
    ) -> None:
        self.locked, self.refused, self.late, self.undoes, self.whole = locked, refused, late, undoes, whole
        self.committed: list[int] = []
        self.written: list[int] = []
        self.tried: list[int] = []
        self.mark, self.open, self.gone = 0, False, False
        self.expected, self.shorts = False, 0

    def write_all(self, rows: list[int]) -> None:
        self.begin()
        try:
            self.write(rows)
        except SqlError:
            self.rollback()
            raise
        self.commit()

    def begin(self) -> None:
        assert not self.open
        self.open, self.gone, self.written = True, False, []

    def write(self, rows: list[int]) -> None:
        assert self.open
        for at in rows:
            if len(rows) == 1:
                self.tried.append(at)
            if at in self.locked or self.whole:
                self.gone = self.undoes
                raise SqlUnavailableError("locked", waited=True)
            if at in self.refused:
                self.gone = self.undoes
                raise SqlIntegrityError(str(at))
            self.written.append(at)

    def commit(self) -> None:
        self.open = False
        if self.late & set(self.written):
            raise SqlIntegrityError("late")
        self.committed += self.written

    def rollback(self) -> None:
        self.open = False

    def savepoint(self) -> None:
        self.mark = len(self.written)

    def release(self) -> None:
        """Keep what was written."""

    def rollback_to(self) -> None:
        if self.gone:
            self.open = False
            raise SqlStatementError("no such savepoint")
        del self.written[self.mark :]

    def short(self) -> AbstractContextManager[None]:
        assert self.open, "the wait is a setting of the transaction"
        self.shorts += 1
        return nullcontext()

    def expect(self, waits: bool) -> None:
        self.expected = waits

    def touch(self, rows: list[int]) -> None:
        if self.whole:
            raise SqlUnavailableError("locked", waited=True)

    def scope(self, row: int) -> str:
        return "a locked row"


def batch(table: Any, size: int, **options: Any) -> dict[int, SqlError]:
    return write_batch(table, list(range(size)), waits=table, **options)  # type: ignore[arg-type]  # any row


def scopes(errors: dict[int, SqlError]) -> set[str]:
    return {error.scope for error in errors.values() if isinstance(error, SqlUnavailableError)}


_PLACES = st.sets(st.integers(0, 29), max_size=12)


@given(
    locked=_PLACES.map(lambda places: {at for at in places if at > 0}),
    refused=_PLACES,
    late=_PLACES,
    undoes=st.booleans(),
    savepoints=st.booleans(),
)
def test_exactly_the_locked_and_the_refused_rows_fail(
    locked: set[int], refused: set[int], late: set[int], undoes: bool, savepoints: bool
):
    """Each has its own error, whatever else the batch holds; all others are committed once, in order."""
    # The first row passes, so that it is not the table that is locked.
    refused, late = refused - {0}, late - {0}
    table = Table(locked, refused, set() if locked & late else late, undoes=undoes)
    errors = batch(table, 30, savepoints=savepoints)
    assert set(errors) == locked | refused | table.late
    assert (
        {at for at, error in errors.items() if isinstance(error, SqlUnavailableError)}
        == {at for at in locked if isinstance(errors[at], SqlUnavailableError)}
        >= locked - refused
    )
    assert scopes(errors) <= {"a locked row"}
    assert sorted(table.committed) == sorted(set(range(30)) - set(errors))
    assert not table.open


def test_after_a_wait_the_next_batch_waits_briefly():
    """A stream with locked rows would else wait for each batch; one that passes ends that."""
    table = Table({9})
    for shorts, written in ((1, 9), (3, 18), (4, 23), (4, 28)):
        rows = 10 if written <= 18 else 5
        batch(table, rows)
        assert (table.shorts, len(table.committed), table.open) == (shorts, written, False)


def test_a_locked_table_is_no_fault_of_a_row():
    """Nothing is written, no row is tried by itself, and the error concerns the target."""
    table = Table(set(), whole=True)
    with pytest.raises(SqlUnavailableError) as caught:
        batch(table, 30)
    assert (caught.value.scope, table.tried, table.committed, table.open) == ("target", [], [], False)


def test_rows_that_all_wait_are_not_tried_one_by_one():
    """After a few of them, none of which passed, all wait: each try would cost its time again."""
    table = Table(set(range(30)))
    with pytest.raises(SqlUnavailableError) as caught:
        batch(table, 30)
    assert (caught.value.scope, table.tried, table.open) == ("target", [0, 1, 2], False)


@pytest.mark.parametrize("size", [1, 2])
def test_a_small_batch_of_locked_rows_does_not_pause_the_target(size: int):
    """The table is not locked, so that the rows are, however few there are to tell from."""
    errors = batch(Table({0, 1}), size)
    assert set(errors) == set(range(size))
    assert scopes(errors) == {"a locked row"}


def test_rows_set_apart_are_tried_each_however_many_wait():
    """They are known to be locked: that all of them wait says nothing about the table."""
    table = Table(set(range(30)))
    rows: Any = list(range(30))
    errors = write_each(table, rows, table)  # type: ignore[arg-type]  # its own writer and its own waits
    assert set(errors) == set(range(30))
    assert sorted(table.tried) == rows
    assert scopes(errors) == {"a locked row"}


def seconds(table: Table, each_s: float = 0.9) -> Callable[[], float]:
    """Return a clock on which each try of a row takes so long."""
    return lambda: each_s * len(table.tried)


@pytest.mark.parametrize("locked", [{2}, set(), {0, 1, 3}], ids=str)
def test_a_batch_whose_rows_take_long_is_cut(locked: set[int]):
    """What was written in time is committed; the rows that are left wait for the next batch, untried."""
    table, together = Table(locked), SqlUnavailableError("locked", waited=True)
    rows: Any = list(range(30))
    waits: Any = table
    errors = write_each(waits, rows, waits, together=together, clock=seconds(table))
    assert table.tried == list(range(6))
    assert table.committed == [at for at in range(6) if at not in locked]
    assert {at for at, error in errors.items() if error is together} == set(range(6, 30))
    assert set(errors) == locked | set(range(6, 30))


def test_a_batch_that_is_cut_before_a_row_passed_is_refused_together():
    """Nothing shows that only some rows are locked."""
    table, together = Table(set(range(30))), SqlUnavailableError("locked", waited=True)
    rows: Any = list(range(30))
    waits: Any = table
    with pytest.raises(SqlUnavailableError) as caught:
        write_each(waits, rows, waits, together=together, clock=seconds(table, 5.1))
    assert (caught.value, table.tried, table.open) == (together, [0], False)


def test_rows_set_apart_take_no_longer_than_a_second():
    """Each try may cost a wait: the rest is refused untried, and the first one is another each time."""
    firsts = set()
    rows: Any = list(range(4))
    for _ in range(200):
        table = Table(set(rows))
        waits: Any = table
        errors = write_each(waits, rows, waits, clock=seconds(table))
        assert set(errors) == set(rows)
        assert scopes(errors) == {"a locked row"}
        assert len(table.tried) == 2
        firsts.add(table.tried[0])
    assert firsts == set(rows)


def test_an_error_that_waited_for_nothing_is_raised():
    """A read-only server is unavailable for all rows; nothing is tried again."""

    class ReadOnly(Table):
        def write(self, rows: list[int]) -> None:
            self.tried += rows
            raise SqlUnavailableError("read-only")

    table = ReadOnly(set())
    with pytest.raises(SqlUnavailableError):
        batch(table, 8)
    assert (table.tried, table.committed, table.open) == (list(range(8)), [], False)
