"""A journal in the memory of the process, for tests: rows end with it."""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections.abc import Callable, Collection, Sequence

from rambla_py.outbox.errors import DuplicateIdError, OutboxFullError
from rambla_py.outbox.journal import Acceptance, Account, Changes, Share, Totals
from rambla_py.outbox.room import CommitRoom
from rambla_py.outbox.rows import Letter, Row
from rambla_py.outcome import Status

__all__ = ["MemoryJournal", "MemoryTables", "copied", "tables_at"]


_numbers = itertools.count(1)
_by_url: weakref.WeakValueDictionary[str, MemoryTables] = weakref.WeakValueDictionary()


class MemoryTables:
    """What the journals of one ``url`` share: rows, dead letters, accounts, and who delivers which share.

    ``rows`` and ``letters`` are by the number of the row, ``accounts`` by ``service.channel``; ``replayed``
    has the ids of letters that were replayed.
    """

    def __init__(self) -> None:
        self.url = f"memory://{next(_numbers)}"
        _by_url[self.url] = self
        self.lock = threading.RLock()
        self.rows: dict[int, Row] = {}
        self.letters: dict[int, Letter] = {}
        self.replayed: dict[int, str] = {}
        self.accounts: dict[str, Account] = {}
        self.seen: dict[tuple[str, str], tuple[bytes, Status | None, float | None]] = {}
        self.handed: dict[tuple[int, str], int | None] = {}
        self.deaths: dict[tuple[int, str], tuple[int, ...]] = {}
        self.owners: dict[int, MemoryJournal | None] = {0: None}
        self.sequence = 0


class MemoryJournal:
    """Stores rows in ``tables``, which several journals of one process may share, one after the other."""

    polls = False
    finds_duplicates = True

    def __init__(
        self,
        tables: MemoryTables | None = None,
        *,
        dedup_window_s: float = 86_400.0,
        max_rows: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = "memory"
        self.wake: Callable[[], None] = _notice_nothing
        self.own = 0
        self.tables = tables or MemoryTables()
        self._dedup_window_s, self._max_rows, self._clock = dedup_window_s, max_rows, clock

    def open(self, *, delivers: bool) -> None:
        """Become an owner if this process delivers."""
        if delivers:
            with self.tables.lock:
                self.own = max(self.tables.owners) + 1
                self.tables.owners[self.own] = self

    def close(self) -> None:
        """Let go of the owners."""
        with self.tables.lock:
            for number, holder in self.tables.owners.items():
                if holder is self:
                    self.tables.owners[number] = None

    def write(self, acceptances: Sequence[Acceptance], changes: Changes) -> None:
        """Store new rows, and apply changes."""
        with self.tables.lock:
            self._apply(changes)
            room = CommitRoom(self.name, rows=len(self.tables.rows), max_rows=self._max_rows)
            for one in acceptances:
                try:
                    self._set_duplicates_aside(one, room)
                except (DuplicateIdError, OutboxFullError) as error:
                    one.error = error
                    continue
                for row in one.rows:
                    self._add(row)
                self._apply(Changes(ended=one.replaces))

    def spill(self, rows: Sequence[Row]) -> bool:
        """Do nothing: spilled rows are in their owner's share."""
        return False

    def _add(self, row: Row) -> None:
        tables = self.tables
        tables.sequence += 1
        row.seq, row.share = tables.sequence, self.own
        tables.rows[row.seq] = copied(row)
        self._account(row.target).accepted += 1

    def _set_duplicates_aside(self, one: Acceptance, room: CommitRoom) -> None:
        seen, now = self.tables.seen, self._clock()
        fresh: dict[tuple[str, str], tuple[bytes, Status | None, float | None]] = {}
        duplicates: list[tuple[Row, Status | None]] = []
        for row in one.rows:
            place = (row.target, row.id)
            found = fresh.get(place) or seen.get(place)
            if not row.given_id:
                continue
            if found is None or (found[2] is not None and found[2] <= now):
                fresh[place] = (row.payload, None, None)
            elif found[0] != row.payload:
                raise DuplicateIdError(row.target, row.id)
            else:
                row.share = self._share_of(place, new=place in fresh)
                duplicates.append((row, found[1]))
        rows = [row for row in one.rows if not any(row is other for other, _ in duplicates)]
        room.take(rows, len(one.replaces))
        seen.update(fresh)
        for row, _ in duplicates:
            self._account(row.target).duplicates += 1
        one.duplicates, one.rows = duplicates, rows

    def _share_of(self, place: tuple[str, str], *, new: bool) -> int:
        """Return the share of a stored message if this journal delivers it, else -1."""
        shares = [row.share for row in self.tables.rows.values() if (row.target, row.id) == place]
        share = self.own if new else shares[0] if shares else -1
        return share if self.tables.owners.get(share) is self else -1

    def _apply(self, changes: Changes) -> None:
        rows = self.tables.rows
        for seq, (progress, due, wait_s) in changes.progress.items():
            if seq in rows:
                rows[seq].progress, rows[seq].due, rows[seq].wait_s = progress, due, wait_s
        for seq in changes.started:
            if seq in rows:
                rows[seq].started = True
        self.tables.handed.update(changes.cursors)
        for letter in changes.dead:
            if letter.row.seq in rows:
                stored = rows[letter.row.seq]
                stored.progress = letter.row.progress
                self.tables.letters[stored.seq] = _letter(letter, stored)
                self._remove(stored, "fatal", seen=False)
        for row, status in changes.ended:
            if row.seq in rows:
                self._remove(rows[row.seq], status, seen=True)

    def _remove(self, row: Row, status: Status, *, seen: bool) -> None:
        del self.tables.rows[row.seq]
        account = self._account(row.target)
        setattr(account, status, getattr(account, status) + 1)
        if row.given_id and seen:
            until = self._clock() + self._dedup_window_s
            self.tables.seen[row.target, row.id] = (row.payload, status, until)

    def _account(self, target: str) -> Account:
        return self.tables.accounts.setdefault(target, Account())

    def claim(self) -> list[Share]:
        """Take over the owners that no journal has."""
        tables = self.tables
        with tables.lock:
            free = [number for number, holder in tables.owners.items() if holder is None]
            for number in free:
                tables.owners[number] = self
            return [Share(number, deaths=self._deaths(number)) for number in free]

    def _deaths(self, number: int) -> dict[str, tuple[int, ...]]:
        return {target: upto for (share, target), upto in self.tables.deaths.items() if share == number}

    def release(self, share: int) -> bool:
        """Let go of an owner if it has no rows any more; return whether it has none."""
        with self.tables.lock:
            if any(row.share == share for row in self.tables.rows.values()):
                return False
            self.tables.owners.pop(share, None)
            return True

    def lost(self) -> list[Row]:
        """Return nothing."""
        return []

    def elsewhere(self, seqs: Collection[int]) -> set[int]:
        """Return nothing: an owner keeps its rows."""
        return set()

    def read(self, share: int, target: str, after: int, limit: int) -> list[Row]:
        """Return the rows of an owner for a target, in order, from the one after ``after``."""
        with self.tables.lock:
            found = [
                copied(row)
                for row in self.tables.rows.values()
                if row.share == share and row.target == target and row.seq > after
            ]
        return sorted(found, key=lambda row: row.seq)[:limit]

    def look_again(self) -> None:
        """Do nothing: no row is committed after one with a higher number."""

    def counts(self, share: int) -> dict[str, tuple[int, int]]:
        """Return, by target, how many rows an owner has and the number of the last one."""
        found: dict[str, tuple[int, int]] = {}
        with self.tables.lock:
            for row in self.tables.rows.values():
                if row.share == share:
                    number, last = found.get(row.target, (0, 0))
                    found[row.target] = (number + 1, max(last, row.seq))
        return found

    def others(self, targets: Collection[str]) -> list[str]:
        """Return what other targets share 0 has rows for."""
        if self.tables.owners.get(0) is not self:
            return []
        return [name for name in self.counts(0) if name not in targets]

    def accounts(self) -> dict[str, Account]:
        """Return the account of every target."""
        return self.ledger()[0]

    def ledger(self) -> tuple[dict[str, Account], int | None]:
        """Return the accounts, and how many rows were ever stored."""
        with self.tables.lock:
            for account in self.tables.accounts.values():
                account.pending = account.dead = 0
            for row in self.tables.rows.values():
                self._account(row.target).pending += 1
            for letter in self.tables.letters.values():
                self._account(letter.row.target).dead += 1
            return dict(self.tables.accounts), self.tables.sequence

    def log_bytes(self) -> int:
        """Return 0: there is no log."""
        return 0

    def totals(self) -> Totals:
        """Return what the journal holds."""
        with self.tables.lock:
            accepted = [row.accepted for row in self.tables.rows.values()]
            owners = [holder for number, holder in self.tables.owners.items() if number]
            return Totals(
                rows=len(accepted),
                dead=len(self.tables.letters),
                oldest=min(accepted, default=None),
                file_bytes=0,
                log_bytes=0,
                owners_alive=sum(holder is not None for holder in owners),
                owners_adopted=sum(holder is self for holder in owners) - (self.own > 0),
            )


def _notice_nothing() -> None:
    """Do nothing: no row comes from another process."""


def tables_at(url: str) -> MemoryTables:
    """Return the tables of a url, new ones where there are none."""
    return _by_url.get(url) or MemoryTables()


def copied(row: Row) -> Row:
    """Return a row that no one else changes."""
    return Row(**{name: getattr(row, name) for name in Row.__struct_fields__})


def _letter(letter: Letter, row: Row) -> Letter:
    fields = {name: getattr(letter, name) for name in Letter.__struct_fields__}
    return Letter(**{**fields, "row": row})
