"""Rows of one target that are not in its mailbox yet: spilled for want of room, or adopted."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING

import msgspec

from rambla_py.receipt import Receipt

if TYPE_CHECKING:
    from rambla_py.delivery_history import Stored
    from rambla_py.outbox.journal import Share
    from rambla_py.outbox.rows import Row
    from rambla_py.runtime.target.target import Target
    from rambla_py.telemetry.observer import OutboxState

__all__ = ["ALONE_AFTER", "Feed", "Source"]

ALONE_AFTER = 2
"""With how many deaths of its process a message is attempted alone."""


_Receipts = dict[int, tuple["weakref.ref[Receipt]", int, str]]


class Source(msgspec.Struct, eq=False):
    """The rows of one share for one target, from the one after ``after`` to ``last``, which may be unknown.

    ``deaths`` has, for each process that died with the share, the last row that had been handed out.
    ``more``: the last look found as many rows as there was room for, or there was none to look.
    ``adoption`` is the number under which its rows were adopted together; 0 if each has one of its own.
    """

    share: int
    after: int
    last: int | None
    adopted: bool = False
    deaths: tuple[int, ...] = ()
    more: bool = False
    adoption: int = 0

    @property
    def exhausted(self) -> bool:
        """Whether all of its rows were handed out, and no others come."""
        return self.last is not None and self.after >= self.last

    def crashes(self, row: Row) -> int:
        """Return how many processes died while they had a row."""
        if not self.adopted:
            return 0
        return row.crashes + sum(row.seq <= upto for upto in self.deaths)


class Feed:
    """The order in which a target's rows come into its mailbox. Used by the writer of the journal only.

    Rows of earlier owners go before this process's own. ``polled`` sources get rows from others at any time.
    ``alone`` is what is attempted alone now: no other row is handed out until its attempt is over.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.name = target.config.name
        self.sources: deque[Source] = deque()
        self.polled: dict[int, Source] = {}
        self.last_resident = 0
        self.alone: Stored | None = None
        self._receipts: _Receipts = {}
        # That of the last row, with the numbers of its rows: those of a call come together.
        self._last_receipt: tuple[weakref.ref[Receipt], list[int]] | None = None

    @property
    def spilling(self) -> bool:
        """Whether new rows must wait behind others."""
        return bool(self.sources)

    @property
    def low(self) -> bool:
        """Whether the mailbox has so much room that it is worth while to feed it."""
        return self.alone is None and len(self.target.mailbox) * 2 <= self.target.config.max_pending

    def fits(self, number: int) -> bool:
        """Return whether new rows may go into the mailbox at once."""
        return not self.sources and self.alone is None and self.target.mailbox.has_room(number)

    def spill(self, rows: Iterable[Row]) -> None:
        """Add rows of this process to those that wait."""
        for row in rows:
            if self.sources and not self.sources[-1].adopted:
                self.sources[-1].last = row.seq
            else:
                self.sources.append(Source(row.share, row.seq - 1, row.seq))

    def next_of(self, source: Source, rows: Sequence[Row]) -> Sequence[Row]:
        """Return those of the next rows of a source to hand out together."""
        for at, row in enumerate(rows):
            if source.crashes(row) >= ALONE_AFTER:
                return rows[: max(at, 1)]
        return rows

    def attempted(self, stored: Stored | None) -> bool:
        """Record that an attempt of a row is over; return whether it was made alone."""
        if stored is None or stored is not self.alone:
            return False
        self.alone = None
        return True

    def covers(self, row: Row) -> bool:
        """Return whether a row of this process is among those that wait here."""
        return any(not source.adopted and (source.last or 0) >= row.seq for source in self.sources)

    @property
    def unread(self) -> bool:
        """Whether the last look into a polled source may have left rows there."""
        return any(source.more for source in self.polled.values())

    def adopt(self, share: Share, last: int | None, number: int = 0) -> None:
        """Add the ``number`` rows of an earlier owner, before this process's own.

        Without ``last``, those to come.
        """
        source = Source(share.number, 0, last, adopted=True, deaths=share.deaths.get(self.name, ()))
        if number:
            source.adoption = self.target.counters.adopt(number)
        if last is None:
            self.polled[share.number] = source
            return
        own = self.sources.pop() if self.sources and not self.sources[-1].adopted else None
        self.sources.append(source)
        if own is not None:
            self.sources.append(own)

    def remember(self, row: Row, receipt: Receipt | None, slot: int) -> None:
        """Keep the way to a spilled row's receipt for as long as the application has it."""
        if receipt is None:
            return
        if self._last_receipt is None or self._last_receipt[0]() is not receipt:
            self._last_receipt = _reference(receipt, self._receipts)
        reference, seqs = self._last_receipt
        seqs.append(row.seq)
        self._receipts[row.seq] = (reference, slot, row.id)

    def recall(self, seq: int) -> tuple[Receipt | None, int]:
        """Return the receipt of a row, if the application still has it, and its place there."""
        found = self._receipts.pop(seq, None)
        return (None, 0) if found is None else (found[0](), found[1])

    def observe(self, state: OutboxState, number: int, message_ids: Sequence[str] = ()) -> None:
        """Report to the observers what happened to messages of the target."""
        for outbox in self.target.observers.outbox:
            outbox(self.target.config, state, number, message_ids)

    @property
    def awaited(self) -> list[int]:
        """The rows that are not handed out yet and whose receipts the application still has."""
        return list(self._receipts)

    def keep(self, seqs: Iterable[int]) -> None:
        """Record in the receipts of rows that these stay in the outbox, or are delivered by others."""
        for seq in seqs:
            reference, _, message_id = self._receipts.pop(seq, (None, 0, ""))
            receipt = None if reference is None else reference()
            if receipt is not None:
                receipt._keep(message_id)


def _reference(receipt: Receipt, receipts: _Receipts) -> tuple[weakref.ref[Receipt], list[int]]:
    """Return a reference that removes the rows with the numbers of a list once the receipt is gone."""
    seqs: list[int] = []
    # In C, so that no signal handler comes between: what it raised would be lost here.
    return weakref.ref(receipt, lambda _: deque(map(receipts.pop, seqs, repeat(None)), maxlen=0)), seqs
