"""This module brings a target to its end: each delivery has an outcome, and what still comes has one, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rambla_py.actors.roster import Summons
from rambla_py.errors import DroppedError

if TYPE_CHECKING:
    from rambla_py.actors.target import Target

__all__ = ["close", "drop_later_than", "drop_waiting", "shut"]


def drop_later_than(target: Target, stop_at: float) -> None:
    """From now on, drop what is due after ``stop_at``."""
    target.stop_at = stop_at
    for delivery in target.mailbox.take_parked_after(stop_at):
        target.endings.drop(delivery, "stopped")
    target.roster.nudge()


def shut(target: Target) -> None:
    """Have nothing more attempted: drop what waits, and what still comes."""
    target.closed = True
    target.roster.idle.clear()
    drop_waiting(target)


def close(target: Target) -> None:
    """Shut it, and end what is in flight as ``unknown``; what has an answer already is left to the judges."""
    shut(target)
    crew, endings = target.roster.crew, target.endings
    for session in crew.sessions():
        for delivery in session.take_back():
            endings.drop(delivery, "stopped")
        for delivery, _ in session.give_up(0.0, DroppedError("stopped")):
            endings.finish(delivery, "unknown", DroppedError("stopped while in flight"))
    for delivery, _ in crew.abandon_judgements():
        endings.drop(delivery, "stopped")


def drop_waiting(target: Target) -> None:
    """Drop what waits, and have what still comes dropped as it comes."""
    # First in line for the next wake, and so called again by whoever comes too late.
    target.roster.idle.appendleft(Summons(lambda: drop_waiting(target)))
    for delivery in target.mailbox.take_all():
        target.endings.drop(delivery, "stopped")
    target.room.offer()  # the timer, which else looks after those that wait for room, ends with the tree
