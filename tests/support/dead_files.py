"""Files of an outbox with messages that were accepted, delivered, and died."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rambla_py.errors import RejectedError
from rambla_py.outbox.codec import dump_value
from rambla_py.outbox.dead import letter_from
from rambla_py.outbox.journal import Acceptance, Changes, Journal
from rambla_py.outbox.rows import Letter, Progress, Row
from rambla_py.outbox.sqlite.journal import SqliteJournal

__all__ = ["accept", "dead", "kill", "kill_in", "row"]


def row(id_: str, target: str = "amqp.orders", payload: Any = None, **fields: Any) -> Row:
    """Return a row with its checksum, not yet stored."""
    given = {
        "key": None,
        "accepted": 1_000.0,
        "payload": dump_value({"id": id_} if payload is None else payload),
    }
    made = Row(target=target, id=id_, **{**given, **fields})
    made.seal()
    return made


def accept(journal: Journal, rows: Sequence[Row]) -> None:
    """Store rows, as a publish does."""
    acceptance = Acceptance(list(rows))
    journal.write([acceptance], Changes())
    assert acceptance.error is None


def dead(one: Row, *, text: str = "RejectedError: no room for 'x'", died: float = 2_000.0) -> Letter:
    """Return the dead letter of a row after one failed attempt."""
    progress = Progress.load(one.progress)
    progress.attempts += 1
    progress.failed(died, text)
    one.progress = progress.dump()
    return letter_from(one, progress, error=RejectedError(text), text=text, handler="AmqpHandler", died=died)


def kill(path: Path, rows: Sequence[Row], **fields: Any) -> list[Letter]:
    """Accept rows in the outbox at ``path``, and let each end as fatal; return the letters."""
    journal = SqliteJournal(path)
    journal.open(delivers=True)
    try:
        return kill_in(journal, rows, **fields)
    finally:
        journal.close()


def kill_in(journal: Journal, rows: Sequence[Row], **fields: Any) -> list[Letter]:
    """Accept rows in a journal that delivers, and let each end as fatal; return the letters."""
    accept(journal, rows)
    for target in {one.target for one in rows}:
        journal.read(0, target, 0, len(rows))  # PostgreSQL: only what was handed out can end
    letters = [dead(one, **fields) for one in rows]
    journal.write([], Changes(dead=letters))
    return letters
