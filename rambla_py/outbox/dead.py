"""Dead letters: which of them are meant, and where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

from rambla_py.outbox.errors import OutboxError
from rambla_py.outbox.fingerprints import error_types, fingerprint
from rambla_py.outbox.rows import Letter, Progress, Row

__all__ = ["DeadLetters", "Group", "Reason", "Selected", "Selection", "letter_from", "resolved"]

_LONGEST_ERROR: Final = 2_048

Reason = Literal["already replayed", "gone"]
"""Why a letter is not there: ``gone`` ones were dropped, or never were."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are meant: those that match everything that is given; by default all of them.

    ``group`` is a fingerprint or its beginning, ``channel`` a channel or ``service.channel``; ``since`` and
    ``until`` bound the time of death, in seconds since the epoch (the second one is excluded); ``error`` is
    a part of the error's text, in any case.
    """

    ids: tuple[str, ...] = ()
    group: str | None = None
    channel: str | None = None
    since: float | None = None
    until: float | None = None
    error: str | None = None

    def __bool__(self) -> bool:
        return self != Selection()


class Selected(msgspec.Struct, frozen=True):
    """The letters that matched a selection at ``as_of`` (seconds since the epoch): their ids by number.

    They are in the order of their numbers. ``missing`` has the selected ids without a letter, and the reason.
    """

    as_of: float
    letters: Mapping[int, str]
    missing: Mapping[str, Reason] = {}


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters of one channel with the same kind of error.

    ``channel`` is ``service.channel``; ``error`` is that of the last letter. Times are seconds since the
    epoch. ``replayed`` counts the letters that had been replayed before, and died again.
    """

    fingerprint: str
    count: int
    channel: str
    error: str
    first_at: float
    last_at: float
    replayed: int


class DeadLetters(Protocol):
    """The dead letters of a journal, by number: that of the row that died (``letter.row.seq``).

    Numbers are never used twice, so a letter that is added later is in no selection made before. A call is
    one transaction, from any thread. Every method raises ``OutboxError`` or one of its children.
    """

    name: str

    def select(self, selection: Selection) -> Selected:
        """Return the letters that match at this moment."""

    def groups(self, selection: Selection) -> list[Group]:
        """Return the letters that match, by channel and kind of error; the largest group first."""

    def read(self, numbers: Sequence[int]) -> list[Letter]:
        """Return the letters with these numbers that are there, in order."""

    def absent(self, numbers: Sequence[int]) -> dict[int, Reason]:
        """Return why letters with these numbers are not there; those that are there are left out."""

    def move(self, moves: Sequence[tuple[int, Row]]) -> list[int]:
        """Replace letters with rows, in one transaction; return the numbers of those that were not there.

        Sets the ``seq`` of each row that was stored; SQLite stores its ``share`` as it is. A row counts as
        accepted, its letter as replayed. The duplicate window is not asked.
        """

    def add(self, letters: Sequence[Letter]) -> None:
        """Store the letters of messages that were not in the journal, in one transaction.

        Sets their numbers. They count as accepted and as fatal.
        """

    def drop(self, numbers: Sequence[int], *, replayed: bool = False) -> list[int]:
        """Remove letters; return the numbers of those that were not there.

        ``replayed``: their messages were published again, outside of the journal.
        """

    def close(self) -> None:
        """Disconnect."""


def letter_from(
    row: Row,
    progress: Progress,
    *,
    error: BaseException,
    text: str,
    handler: str,
    died: float,
    reason: str = "fatal",
) -> Letter:
    """Return the dead letter of a row: ``text`` is its redacted error, ``handler`` a name."""
    types = error_types(error)
    return Letter(
        row=row,
        died=died,
        reason=reason,
        error=text[:_LONGEST_ERROR],
        errors=types,
        handler=handler,
        fingerprint=fingerprint(handler, types, text),
        attempts=progress.attempts,
        replayed=progress.replayed,
    )


def resolved(letters: DeadLetters, selection: Selection) -> Selection:
    """Return a selection with the whole fingerprint of its group.

    Raises ``OutboxError`` if there is no such group, or if there are several.
    """
    if selection.group is None:
        return selection
    names = sorted({one.fingerprint for one in letters.groups(Selection(group=selection.group))})
    if not names:
        hint = "it was replayed or dropped, or never was: see rambla dead list"
        raise OutboxError(letters.name, f"there is no group {selection.group!r} of dead letters; {hint}")
    if len(names) > 1:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise OutboxError(letters.name, f"several groups begin with {selection.group!r}: {shown}")
    return msgspec.structs.replace(selection, group=names[0])
