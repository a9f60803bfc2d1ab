"""This module brings a target to its end: each delivery has an outcome, and what still comes has one, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rambla_py.actors.roster import Summons
from rambla_py.errors import DroppedError

if TYPE_CHECKING:
    from rambla_py.actors.target import Target

__all__ = ["close", "drop_later_than"]


def drop_later_than(target: Target, stop_at: float) -> None:
    """From now on, drop what is due after ``stop_at``."""
    target.stop_at = stop_at
    for delivery in target.mailbox.take_parked_after(stop_at):
        target.endings.drop(delivery, "stopped")
    target.roster.nudge()


def close(target: Target) -> None:
    """End what is left: as ``dropped``, or in flight as ``unknown``; drop what still comes, too.

    What has an answer already is left to the judges.
    """
    crew, endings = target.roster.crew, target.endings
    target.closed = True
    target.roster.idle.clear()
    _drop_waiting(target)
    for session in crew.sessions():
        for delivery, _ in session.give_up(0.0, DroppedError("stopped")):
            endings.finish(delivery, "unknown", DroppedError("stopped while in flight"))
    for delivery, _ in crew.abandon_judgements():
        endings.drop(delivery, "stopped")


def _drop_waiting(target: Target) -> None:
    # First in line for the next wake, and so called again by whoever comes too late.
    target.roster.idle.appendleft(Summons(lambda: _drop_waiting(target)))
    for delivery in target.mailbox.take_all():
        target.endings.drop(delivery, "stopped")
