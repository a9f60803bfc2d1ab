"""The journal: where the rows of the outbox are, whichever database holds them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from rambla_py.outbox.rows import Letter, Row
from rambla_py.outcome import Status

__all__ = ["Acceptance", "Account", "Changes", "Journal", "Share", "Totals"]


class Acceptance(msgspec.Struct, eq=False):
    """The rows of one call, which are stored together or not at all; ``error`` says why they were not.

    ``duplicates`` are rows that are stored already: the same id, target and payload within the duplicate
    window; each with the status that its message ended with, or None while it has none. They are not in
    ``rows`` any more. Where the journal ``finds_duplicates``, the ``share`` of such a row is that of the
    stored one if this process delivers it, else -1. ``replaces`` are rows that end under a status in the same
    transaction, and only if the new ones are stored.
    """

    rows: list[Row]
    error: BaseException | None = None
    duplicates: list[tuple[Row, Status | None]] = []
    replaces: list[tuple[Row, Status]] = []


class Changes(msgspec.Struct, eq=False):
    """What one transaction writes beside new rows.

    ``ended`` rows are removed and counted under their status, those in ``dead`` become dead letters and are
    counted as ``fatal``. ``progress`` and ``due`` replace the columns of rows, ``started`` marks rows whose
    attempt begins. ``cursors`` records up to which row those of a share and target were handed out, None
    for all.
    """

    ended: list[tuple[Row, Status]] = []
    dead: list[Letter] = []
    progress: dict[int, tuple[bytes, float | None, float]] = {}
    started: list[int] = []
    cursors: dict[tuple[int, str], int | None] = {}

    def merged(self, marks: Sequence[Changes]) -> Changes:
        """Return these with the ``progress`` and ``started`` of others."""
        marks = [mark for mark in marks if mark]
        if not marks:
            return self
        merged = msgspec.structs.replace(self, progress=dict(self.progress), started=list(self.started))
        for mark in marks:
            merged.progress.update(mark.progress)
            merged.started.extend(mark.started)
        return merged

    def __bool__(self) -> bool:
        return bool(self.ended or self.dead or self.progress or self.started or self.cursors)


class Share(msgspec.Struct, frozen=True):
    """A part of the journal that this process delivers.

    ``deaths`` has, by target, for each process that died while it delivered the share, the last row that had
    been handed out.
    """

    number: int
    deaths: Mapping[str, tuple[int, ...]] = {}


class Account(msgspec.Struct):
    """The account of one target: accepted = the outcomes + pending. ``dead`` are kept dead letters."""

    accepted: int = 0
    ok: int = 0
    failed: int = 0
    fatal: int = 0
    dropped: int = 0
    expired: int = 0
    unknown: int = 0
    pending: int = 0
    dead: int = 0
    replayed: int = 0
    duplicates: int = 0

    @property
    def difference(self) -> int:
        """Accepted without the outcomes and what is pending: 0 if the account adds up."""
        ended = self.ok + self.failed + self.fatal + self.dropped + self.expired + self.unknown
        return self.accepted - ended - self.pending


class Totals(msgspec.Struct, frozen=True):
    """What a journal holds: rows, dead letters, the oldest row (seconds since the epoch), and bytes.

    ``owners_alive`` are processes that deliver, ``owners_adopted`` those whose rows they have taken over.
    """

    rows: int
    dead: int
    oldest: float | None
    file_bytes: int
    log_bytes: int
    owners_alive: int
    owners_adopted: int


class Journal(Protocol):
    """Stores rows. One thread at a time calls it; a call is one transaction, and leaves no statement open.

    Every method raises ``OutboxError`` or one of its children.
    """

    name: str
    own: int
    """The share that gets the rows of this process; 0 if it only writes."""

    polls: bool
    """Whether rows may come into the shares of this process at any time, from others."""

    finds_duplicates: bool
    """Whether duplicates have the share of the message that is stored already."""

    wake: Callable[[], None]
    """Called, from another thread, when such rows have come; some journals do not notice."""

    def open(self, *, delivers: bool) -> None:
        """Connect, make or migrate the tables; with ``delivers``, register this process to deliver."""

    def close(self) -> None:
        """Let go of the shares, and disconnect."""

    def write(self, acceptances: Sequence[Acceptance], changes: Changes) -> None:
        """Store new rows, and apply changes, in one transaction.

        Sets ``seq`` and ``share`` of each row that was stored, ``error`` of an acceptance that was refused by
        itself (``DuplicateIdError``, ``OutboxFullError``); raises if nothing was stored. The process that
        stored a row hands it out if its share is ``own``; one of share 0 comes back from ``read``, and one of
        a negative share is another process's to deliver.
        """

    def spill(self, rows: Sequence[Row]) -> bool:
        """Leave rows that were stored or read in the journal; return whether they come back in share 0."""

    def claim(self) -> list[Share]:
        """Take over the shares that no living process delivers; return those that are new."""

    def release(self, share: int) -> bool:
        """Let go of a share that gets no new rows, if it has none any more; return whether it has none."""

    def lost(self) -> list[Row]:
        """Return the rows whose removal came too late since the last call: another process has them."""

    def elsewhere(self, seqs: Collection[int]) -> set[int]:
        """Return those of stored rows, not handed out here, that another process delivers by now."""

    def read(self, share: int, target: str, after: int, limit: int) -> list[Row]:
        """Return the rows of a share for a target, in order, from the one after ``after``."""

    def look_again(self) -> None:
        """Let the next ``read`` of each target find rows that were committed late, too."""

    def counts(self, share: int) -> dict[str, tuple[int, int]]:
        """Return, by target, how many rows a share has and the number of the last one."""

    def others(self, targets: Collection[str]) -> list[str]:
        """Return what other targets share 0 has rows for; it may take a while until they are noticed."""

    def accounts(self) -> dict[str, Account]:
        """Return the account of every target."""

    def ledger(self) -> tuple[dict[str, Account], int | None]:
        """Return the accounts, and how many rows were ever stored, at one moment.

        The second is what the database itself counts; None where it does not.
        """

    def log_bytes(self) -> int:
        """Return the size of the write-ahead log; 0 where there is none."""

    def totals(self) -> Totals:
        """Return what the journal holds."""
