"""This module does for a target what time asks for: retries fall due, messages expire, nobody oversleeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rambla_py.actors.target import Target

__all__ = ["tick"]


def tick(target: Target, now: float) -> float | None:
    """Do what is due; return when to look again, or None while nothing can happen by itself."""
    mailbox, roster, alarm = target.mailbox, target.roster, target.alarm
    for delivery in mailbox.unpark(now):
        roster.wake_for(delivery)
    for delivery in mailbox.take_expired(now):
        target.endings.expire(delivery)
    for session in roster.crew.sessions():
        for delivery in session.take_back(expired_at=now):
            target.endings.expire(delivery)
    if target.room.waiters:
        target.room.offer()
    roster.crew.check(now)
    if not mailbox.empty:
        roster.nudge()  # nobody should sleep while messages wait; should one, then not for long
    if target.answers.waiting and not roster.crew.states():
        roster.nobody.nudge()
    if _quiet(target):
        alarm.on = False
        # A publisher that saw it still on has appended before we look again.
        if _quiet(target):
            return None
        alarm.on = True
    due, regular = mailbox.next_due(), now + alarm.interval_s
    return regular if due is None else min(due, regular)


def _quiet(target: Target) -> bool:
    roster = target.roster
    return not target.pending() and len(roster.idle) >= max(1, len(roster.crew.states()))
