"""Shutdown of one target: every delivery gets its outcome, including late ones."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rambla_py.errors import DroppedError
from rambla_py.runtime.target.wakeup import WakeCallback

if TYPE_CHECKING:
    from rambla_py.runtime.target.target import Target

__all__ = ["close", "drop_later_than", "drop_waiting", "shut"]


def drop_later_than(target: Target, stop_at: float) -> None:
    """From now on, drop deliveries that are due after ``stop_at``; with ``inf``, none."""
    target.state.closing(stop_at)
    for delivery in (*target.mailbox.take_parked_after(stop_at), *target.probing.stop_at(stop_at)):
        target.completion.drop(delivery, "stopped")
    target.timer.run_by(target.probing.next_due())
    target.gathering.end()
    target.wakeup.wake_all()


def shut(target: Target) -> None:
    """Stop attempts: drop what waits, and what is accepted from now on."""
    target.state.close()
    target.gathering.end()
    target.wakeup.idle.clear()
    drop_waiting(target)


def close(target: Target) -> None:
    """Shut a target, and end what is in flight as ``unknown``; answers that arrived are still processed."""
    shut(target)
    workers, completion = target.wakeup.workers, target.completion
    for session in workers.sessions():
        for delivery in session.take_back():
            completion.drop(delivery, "stopped")
        for delivery, error in session.abandon(0.0, DroppedError("stopped")):
            completion.fail_attempt(delivery, error, time.monotonic())
            completion.interrupt(delivery, DroppedError("stopped while in flight"))
    for delivery, _ in workers.take_pending_callbacks():
        completion.drop(delivery, "stopped")
    target.log.write_repeats(time.monotonic(), all_of_them=True)


def drop_waiting(target: Target) -> None:
    """Drop what waits, and each delivery that is accepted from now on."""
    # First in the list of idle workers, so that a late publisher calls this again.
    target.wakeup.idle.appendleft(WakeCallback(lambda: drop_waiting(target)))
    for delivery in target.mailbox.take_all():
        target.completion.drop(delivery, "stopped")
    # The timer, which usually wakes publishers that wait for room, is about to stop.
    target.backpressure.offer()
