"""Parts of a batch: rows of one table with the same columns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rambla_py.handlers.sql.encode import RowMaker
from rambla_py.sql.bulk import BulkWriter, Row

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["Part", "PartRow", "PartsMaker", "PartsWriter"]


class Part(NamedTuple):
    """How rows of a table with the same columns are made and written; ``is_fixed``: all rows of the table."""

    table: str
    maker: RowMaker
    writer: BulkWriter
    is_fixed: bool


class PartRow(NamedTuple):
    """A row with its part."""

    part: Part
    row: Row


def _with_part(part: Part, rows: Iterable[Row]) -> list[PartRow]:
    """Return rows with their part, without a call of Python for each."""
    return list(map(tuple.__new__, itertools.repeat(PartRow), zip(itertools.repeat(part), rows)))


class PartsMaker:
    """Makes rows as ``RowMaker`` does, each with its part, which ``part_of(message)`` returns."""

    def __init__(self, part_of: Callable[[Delivery], Part]) -> None:
        self._part_of = part_of

    def make(self, message: Delivery) -> PartRow:
        """Return the row of a message; raises what ``part_of`` and ``RowMaker.make`` raise."""
        part = self._part_of(message)
        return PartRow(part, part.maker.make(message))

    def make_all(self, messages: Sequence[Delivery]) -> list[Any]:
        """Return the rows of a batch, in order; raises what ``make`` raises, for any of the messages."""
        first = self._part_of(messages[0])
        # Messages of a bound channel share their options, and with them their table.
        if first.is_fixed and len({id(message.options) for message in messages}) == 1:
            return _with_part(first, first.maker.make_all(messages))
        made: list[Any] = [None] * len(messages)
        places: dict[int, tuple[Part, list[int]]] = {}
        for place, message in enumerate(messages):
            part = self._part_of(message)
            places.setdefault(id(part), (part, []))[1].append(place)
        for part, at in places.values():
            rows = _with_part(part, part.maker.make_all([messages[one] for one in at]))
            for place, row in zip(at, rows, strict=True):
                made[place] = row
        return made


class PartsWriter:
    """Writes rows of several parts in one transaction, part by part.

    With ``in_order`` the rows of a table keep their order, as an upsert needs: a later row replaces one with
    the same id that has other columns.
    """

    def __init__(self, *, in_order: bool) -> None:
        self._in_order = in_order
        self._one: BulkWriter
        """Any of the writers: the transaction is the connection's."""

    def write_all(self, rows: Sequence[Any]) -> None:
        """Write rows in a transaction of their own: all of them, or none."""
        parts = list(self._parts(rows))
        self._one = parts[0][0].writer
        if len(parts) == 1:
            self._one.write_all(parts[0][1])
            return
        self.begin()
        try:
            self.write(rows)
        except BaseException:
            self.rollback()
            raise
        self.commit()

    def write(self, rows: Sequence[Any]) -> None:
        """Write rows in the transaction."""
        for part, own in self._parts(rows):
            part.writer.write(own)

    def check(self, rows: Sequence[Any]) -> None:
        """Raise ``SqlTooLargeError`` if the server would not accept a row."""
        for part, own in self._parts(rows):
            part.writer.check(own)

    def begin(self) -> None:
        """Begin a transaction."""
        self._one.begin()

    def commit(self) -> None:
        """Commit the transaction."""
        self._one.commit()

    def rollback(self) -> None:
        """Roll the transaction back."""
        self._one.rollback()

    def savepoint(self) -> None:
        """Set a savepoint."""
        self._one.savepoint()

    def release(self) -> None:
        """Release the savepoint."""
        self._one.release()

    def rollback_to(self) -> None:
        """Roll back to the savepoint."""
        self._one.rollback_to()

    def _parts(self, rows: Sequence[PartRow]) -> Iterator[tuple[Part, list[Row]]]:
        if len({id(one[0]) for one in rows}) == 1:
            yield rows[0].part, [one[1] for one in rows]
            return
        if self._in_order:
            rows = sorted(rows, key=lambda one: one.part.table)  # stable
            for _, run in itertools.groupby(rows, key=lambda one: id(one.part)):
                listed = list(run)
                yield listed[0].part, [one.row for one in listed]
            return
        found: dict[int, tuple[Part, list[Row]]] = {}
        for part, row in rows:
            found.setdefault(id(part), (part, []))[1].append(row)
        yield from found.values()
