"""The dead letters of a journal in memory, for tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rambla_py.outbox.dead import Group, Reason, Selected, Selection
from rambla_py.outbox.journal import Account
from rambla_py.outbox.memory import MemoryTables, copied
from rambla_py.outbox.rows import Letter, Row

__all__ = ["MemoryDeadLetters"]


class MemoryDeadLetters:
    """The dead letters in the tables of a ``MemoryJournal``."""

    def __init__(
        self,
        tables: MemoryTables,
        *,
        dedup_window_s: float = 86_400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = "memory"
        self._tables, self._dedup_window_s, self._clock = tables, dedup_window_s, clock

    def close(self) -> None:
        """Do nothing."""

    def select(self, selection: Selection) -> Selected:
        """Return the letters that match at this moment."""
        with self._tables.lock:
            found = {letter.row.seq: letter.row.id for letter in self._matching(selection)}
            absent = set(selection.ids) - set(found.values())
            missing = {id_: self._fate(id_) for id_ in selection.ids if id_ in absent}
        return Selected(self._clock(), found, missing)

    def groups(self, selection: Selection) -> list[Group]:
        """Return the letters that match, by channel and kind of error; the largest group first."""
        kinds: dict[tuple[str, str], list[Letter]] = {}
        with self._tables.lock:
            for letter in self._matching(selection):
                kinds.setdefault((letter.fingerprint, letter.row.target), []).append(letter)
        found = [
            Group(
                fingerprint=fingerprint,
                count=len(letters),
                channel=target,
                error=letters[-1].error,
                first_at=min(letter.died for letter in letters),
                last_at=max(letter.died for letter in letters),
                replayed=sum(letter.replayed > 0 for letter in letters),
            )
            for (fingerprint, target), letters in kinds.items()
        ]
        return sorted(found, key=lambda group: (-group.count, -group.last_at, group.fingerprint))

    def read(self, numbers: Sequence[int]) -> list[Letter]:
        """Return the letters with these numbers that are there, in order."""
        with self._tables.lock:
            return [self._tables.letters[one] for one in sorted(numbers) if one in self._tables.letters]

    def absent(self, numbers: Sequence[int]) -> dict[int, Reason]:
        """Return why letters with these numbers are not there; those that are there are left out."""
        tables = self._tables
        return {
            one: "already replayed" if one in tables.replayed else "gone"
            for one in numbers
            if one not in tables.letters
        }

    def move(self, moves: Sequence[tuple[int, Row]]) -> list[int]:
        """Replace letters with rows; return the numbers of those that were not there."""
        tables, absent = self._tables, []
        with tables.lock:
            for number, row in moves:
                letter = tables.letters.pop(number, None)
                if letter is None:
                    absent.append(number)
                    continue
                tables.sequence += 1
                row.seq = tables.sequence
                tables.rows[row.seq] = copied(row)
                tables.replayed[number] = row.id
                tables.accounts.setdefault(row.target, Account()).accepted += 1
                tables.accounts.setdefault(letter.row.target, Account()).replayed += 1
                if row.given_id and row.target != letter.row.target:
                    self._lapse(letter.row)
                    tables.seen[row.target, row.id] = (row.payload, None, None)
        return absent

    def add(self, letters: Sequence[Letter]) -> None:
        """Store the letters of messages that were not in the journal."""
        with self._tables.lock:
            for letter in letters:
                self._tables.sequence += 1
                letter.row.seq = self._tables.sequence
                self._tables.letters[letter.row.seq] = letter
                account = self._tables.accounts.setdefault(letter.row.target, Account())
                account.accepted += 1
                account.fatal += 1

    def drop(self, numbers: Sequence[int], *, replayed: bool = False) -> list[int]:
        """Remove letters; return the numbers of those that were not there."""
        absent = []
        with self._tables.lock:
            for number in numbers:
                letter = self._tables.letters.pop(number, None)
                if letter is None:
                    absent.append(number)
                    continue
                if letter.row.given_id:
                    self._lapse(letter.row)
                if replayed:
                    self._tables.replayed[number] = letter.row.id
                    self._tables.accounts.setdefault(letter.row.target, Account()).replayed += 1
        return absent

    def _lapse(self, row: Row) -> None:
        until = self._clock() + self._dedup_window_s
        self._tables.seen[row.target, row.id] = (row.payload, "fatal", until)

    def _fate(self, id_: str) -> Reason:
        return "already replayed" if id_ in self._tables.replayed.values() else "gone"

    def _matching(self, selection: Selection) -> list[Letter]:
        return [letter for _, letter in sorted(self._tables.letters.items()) if _matches(letter, selection)]


def _matches(letter: Letter, selection: Selection) -> bool:
    target = letter.row.target
    return (
        (not selection.ids or letter.row.id in selection.ids)
        and letter.fingerprint.startswith(selection.group or "")
        and selection.channel in (None, target, target.partition(".")[2])
        and (selection.since is None or letter.died >= selection.since)
        and (selection.until is None or letter.died < selection.until)
        and (selection.error or "").lower() in letter.error.lower()
    )
