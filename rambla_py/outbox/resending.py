"""Replay of dead letters to channels that are not durable: publish first, remove the letter afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rambla_py.errors import RamblaError
from rambla_py.message import Message
from rambla_py.outbox.dead import DeadLetters, Selection
from rambla_py.outbox.row_of import decoded
from rambla_py.outbox.rows import Row

if TYPE_CHECKING:
    from rambla_py.receipt import Receipt

__all__ = ["Publish", "Resending"]

Publish = Callable[[str, Message], "Receipt"]

_POLL_S: Final = 0.02
_LETTER_S: Final = 5.0
"""For how long a message that died again is looked for among the dead letters."""


class Resending:
    """Publishes the messages of letters to channels that are not durable.

    ``channels`` are those that are not durable, by ``service.channel``, each with whether it keeps dead
    letters. ``moved`` is called with rows before they are published. ``wait`` returns whether to stop; each
    outcome is waited for at most ``timeout_s``.
    """

    def __init__(
        self,
        letters: DeadLetters,
        publish: Publish,
        moved: Callable[[Sequence[Row]], object],
        channels: Mapping[str, bool],
        *,
        timeout_s: float,
        wait: Callable[[float], bool],
    ) -> None:
        self._letters, self._publish, self._moved, self._channels = letters, publish, moved, channels
        self._timeout_s, self._wait = timeout_s, wait

    def takes(self, row: Row) -> bool:
        """Return whether the channel of a row is one that is not durable."""
        return row.target in self._channels

    def send(self, moves: Sequence[tuple[int, Row]]) -> dict[int, str | None]:
        """Publish rows and wait for their outcomes; ``moves`` are rows by the number of a letter.

        Return, for each letter, why it must stay, or None for one that may be removed: its message was
        delivered, or it died again, which is another letter by now. Raises ``OutboxError``.
        """
        receipts: dict[int, Receipt] = {}
        found: dict[int, str | None] = {}
        self._moved([row for _, row in moves])
        for number, row in moves:
            try:
                receipts[number] = self._publish(row.target, _message_of(row))
            except (RamblaError, ValueError) as error:
                found[number] = str(error)
        self._wait_for(list(receipts.values()))
        found |= {number: _why_not(receipt) for number, receipt in receipts.items()}
        fatal = {
            number: row.id
            for number, row in moves
            if self._channels[row.target] and number in receipts and _is_fatal(receipts[number])
        }
        return found | dict.fromkeys(self._letters_again(fatal))

    def _wait_for(self, receipts: Sequence[Receipt]) -> None:
        for receipt in receipts:
            deadline = time.monotonic() + self._timeout_s
            while not receipt.done():
                if time.monotonic() > deadline or self._wait(_POLL_S):
                    return

    def _letters_again(self, fatal: Mapping[int, str]) -> set[int]:
        """Return the letters whose messages have another one, which is stored a moment after the outcome."""
        left, again, deadline = dict(fatal), set[int](), time.monotonic() + _LETTER_S
        while left:
            there = self._letters.select(Selection(ids=tuple(left.values()))).letters
            newest = {message_id: number for number, message_id in there.items()}
            again |= {number for number, message_id in left.items() if newest.get(message_id, 0) > number}
            left = {number: message_id for number, message_id in left.items() if number not in again}
            if left and (time.monotonic() > deadline or self._wait(_POLL_S)):
                break
        return again


def _message_of(row: Row) -> Message:
    if row.form == "custom":
        raise ValueError("a serializer of the application wrote it: only a durable channel takes it as it is")
    return Message(decoded(row), **row.given())


def _is_fatal(receipt: Receipt) -> bool:
    return receipt.done() and receipt.outcomes(0)[0].final.status == "fatal"


def _why_not(receipt: Receipt) -> str | None:
    if not receipt.done():
        return "it was published, and has no outcome yet: a second replay may deliver it twice"
    (outcome,) = receipt.outcomes(0)
    return None if outcome.succeeded else f"it was published, and ended as {outcome.final.status}"
