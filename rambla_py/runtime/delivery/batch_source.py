"""Source of one worker's batches: what it may take next from its target."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rambla_py.runtime.target.isolation import LARGEST_GROUP, is_suspect

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.runtime.delivery.dispatch import Dispatcher
    from rambla_py.runtime.target.in_flight import InFlight
    from rambla_py.runtime.target.target import Target

__all__ = ["BatchSource"]


class BatchSource:
    """Takes batches for one worker, or groups of suspects for an ``isolated`` one.

    ``wake_at`` sets when the worker is to be woken: while a batch fills, or for the rate limit. ``gathers``:
    batches fill.
    """

    def __init__(
        self,
        target: Target,
        index: int,
        dispatcher: Dispatcher,
        wake_at: Callable[[float | None], None],
        *,
        isolated: bool,
    ) -> None:
        self._target, self._index, self._wake_at, self._isolated = target, index, wake_at, isolated
        self.gathers = bool(target.config.batch_timeout_s) and not isolated
        self._paced = self.gathers or target.batching.limited
        self._sets_timer = self._paced or isolated
        self._releases: int | None = None
        self._max_in_flight = target.config.max_in_flight
        self._limit = 1 if dispatcher.one_by_one else target.config.batch_size
        self._whole_batches = dispatcher.whole_batches

    def free(self, session: InFlight | None) -> int:
        """Return how many deliveries may be put in flight on a connection now."""
        if session is None or session.held:
            return 0
        if not (session.sent or session.unsent or session.batch):
            # Read last: what was in flight may just have been claimed as overdue, and the connection with it.
            return 0 if session.expiring else self._max_in_flight
        return 0 if session.alone or session.expiring else self._max_in_flight - session.in_flight

    def has_work(self, session: InFlight | None, *, held_back: bool) -> bool:
        """Return whether ``take`` would return something on a connection with room.

        ``held_back``: the last ``take`` waits for a batch to fill, or for the rate limit.
        """
        target = self._target
        if session is None or target.state.closed:
            return False
        if held_back:
            return self._releases is not None and target.gathering.changed(self._releases)
        if self._isolated:
            return target.mailbox.has_suspects
        return target.has_work(self._index, alone_ok=not session.in_flight)

    def expect(self, session: InFlight) -> None:
        """Expect the next batch after one that was attempted, so that its first message wakes no worker."""
        target = self._target
        if target.state.stop_at is not None or self.free(session) <= 0:
            return
        self._releases, now = target.gathering.releases, time.monotonic()
        if target.mailbox.empty:
            self._wake_at(target.gathering.expect(now))

    def take(self, session: InFlight | None) -> tuple[list[LiveDelivery], float]:
        """Take what may be attempted now; return it with the time, which is read only if something waits."""
        target = self._target
        if target.mailbox.empty:
            if self._sets_timer:
                self._wake_at(None)
                if session is not None and self.gathers and target.gathering.pauses:
                    self.expect(session)  # the pause is over, and nothing has come
            return [], 0.0
        free = self.free(session)
        if session is None or free <= 0:
            return [], 0.0
        now = time.monotonic()
        wait_s = self._wait_s(now) if self._paced else None
        if wait_s is not None:
            self._wake_at(now + wait_s)
            return [], now
        if self._sets_timer:
            self._wake_at(None)
        if self._isolated:
            return self._take_suspects(session, now), now
        limit = self._limit if self._whole_batches else min(self._limit, free)
        batch = target.take(self._index, limit, now, alone_ok=free == self._max_in_flight)
        if batch:
            alone = is_suspect(batch[0])
            if alone != session.alone:
                session.reserve(alone=alone)
        return batch, now

    def _wait_s(self, now: float) -> float | None:
        """Return the seconds to wait for a batch to fill or for the rate limit, or None."""
        target = self._target
        self._releases = None
        if self.gathers and target.state.stop_at is None:
            releases = target.gathering.releases
            wait_s = target.gathering.left_s(now)
            if wait_s is not None:
                self._releases = releases
                return wait_s
        return target.batching.wait_s(now)

    def _take_suspects(self, session: InFlight, now: float) -> list[LiveDelivery]:
        """Take the next group of suspects; the following one waits until it is answered."""
        group = self._target.take_suspects(min(self._limit, LARGEST_GROUP), now)
        if group:
            session.reserve(alone=True)
        return group
