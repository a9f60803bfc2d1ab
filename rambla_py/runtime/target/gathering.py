"""Gathering: the wait of a target's messages for a batch to fill."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.receipt import Home, ReceiptHome
    from rambla_py.runtime.target.mailbox import Mailbox
    from rambla_py.runtime.target.wakeup import TargetTimer, Wakeup

__all__ = ["Gathering", "GatheringHome", "home_of"]

_PAUSE_SHARE = 0.01
_LONGEST_PAUSE_S = 0.05


class Gathering:
    """Whether a batch still fills: until ``batch_ready`` messages wait, or the oldest has waited long enough.

    ``on``: a worker has seen that the batch is not ready, and looks again when it is due. Meanwhile ``wake``,
    which publishers call, wakes a worker only for the message that makes the batch ready. It is always safe
    to clear ``on``: the next message then wakes a worker, which sets it again. Everything that may keep the
    worker from looking in time clears it.

    Batches that become ready at short intervals are ``pause_s`` seconds apart, a hundredth of the time that
    messages may wait: meanwhile only as many messages as a batch can have wake a worker. A batch costs a
    process hundreds of microseconds beside its messages, and twice that where it competes for the GIL; at a
    thousand messages a second one of ten would be ready every 10 ms.

    ``pauses``: the worker that expects a batch looks again at the end of a pause already. ``releases`` counts
    the releases, so that a worker that is about to sleep notices one. Thread-safe.
    """

    def __init__(self, config: ChannelConfig, mailbox: Mailbox, wakeup: Wakeup, timer: TargetTimer) -> None:
        self.timeout_s = config.batch_timeout_s
        self.pause_s = min(_LONGEST_PAUSE_S, _PAUSE_SHARE * self.timeout_s)
        self.on = self.pauses = False
        self.releases = 0
        # A full mailbox cannot wait for more.
        self._most = min(config.batch_size, config.max_pending)
        self._ready = self._wakes_at = min(config.batch_ready or config.batch_size, self._most)
        self._last_at = self._paused_until = float("-inf")
        self._mailbox, self._wakeup, self._timer = mailbox, wakeup, timer
        self._waiting = mailbox.waiting
        self._released_at = float("-inf")
        self._over = False

    # -- publishers and waiters -------------------------------------------------------------------------

    def wake(self) -> None:
        """Wake a worker for a new message without a key, unless the batch is to gather more."""
        # Without the timer's periodic work, a waiting message would not expire; a wake-up starts it.
        if self.on and self._timer.on:
            ready, arrived, others = self._waiting
            if len(ready) + len(arrived) + len(others) < self._wakes_at:
                return
        self._wakeup.wake()

    def release(self) -> None:
        """Let everything that was accepted by now be attempted without waiting for its batch to fill."""
        if not self.timeout_s:
            return
        with self._mailbox.lock:  # the clock is read under it, so that the latest release counts
            self.releases += 1
            self._released_at = time.monotonic()
        self.on = False
        if self._mailbox.only_plain:
            if not self._mailbox.empty:
                self._wakeup.wake()
        else:  # keys belong to one worker each
            self._wakeup.wake_all()

    def end(self) -> None:
        """Let no message wait for a batch to fill from now on, because the app stops."""
        self._over = True
        self.releases += 1
        self.on = False

    # -- workers and the timer --------------------------------------------------------------------------

    def left_s(self, now: float) -> float | None:
        """Return the seconds until the batch is due, or None if it is; a worker with room for it calls it."""
        pause_s = self._paused_until - now
        # Set before the count: the publisher of a message that the count misses finds them set, and counts.
        self._wakes_at = wakes_at = self._ready if pause_s <= 0 else self._most
        self.on = True
        if len(self._mailbox) < wakes_at and not (self._over or self._mailbox.paused):
            left_s = self._left_s(now)
            if left_s > 0:
                return left_s if pause_s <= 0 else min(left_s, pause_s)
        self.on = False
        self._paused_until = now + self.pause_s if now - self._last_at < 2 * self.pause_s else now
        self._last_at = now
        return None

    def expect(self, now: float) -> float | None:
        """Expect a batch while nothing waits; return when to look again, None if the app stops.

        A worker calls it after a batch, with a time from before the mailbox was empty. So the first message
        of the next batch wakes no worker to set a timer.
        """
        if self._over:
            return None
        self.pauses = is_paused = now < self._paused_until
        self._wakes_at = self._most if is_paused else self._ready
        self.on = True
        due = now + self.timeout_s
        return min(due, self._paused_until) if is_paused else due

    def changed(self, releases: int) -> bool:
        """Return whether the batch has become ready, or was released, since ``releases`` was read."""
        return self.releases != releases or len(self._mailbox) >= self._wakes_at

    def holds(self, now: float) -> bool:
        """Return whether workers may sleep although messages wait, because the batch is not due yet."""
        most = self._ready if now >= self._paused_until else self._most
        return self.on and len(self._mailbox) < most and self._left_s(now) > 0

    def _left_s(self, now: float) -> float:
        oldest_at = self._mailbox.oldest_at()
        if oldest_at is None or oldest_at <= self._released_at:
            return 0.0
        return oldest_at + self.timeout_s - now


class GatheringHome:
    """The home of receipts whose deliveries may wait for batches to fill; a wait for one releases them."""

    __slots__ = ("_app", "_gatherings", "result_timeout_s")

    def __init__(self, app: Home, gatherings: Sequence[Gathering]) -> None:
        self._app, self._gatherings = app, gatherings
        self.result_timeout_s = app.result_timeout_s

    @property
    def forked(self) -> bool:
        """Whether this is a forked child of the app's process."""
        return self._app.forked

    def obstacles(self) -> Sequence[str]:
        """Return what messages of the app are waiting for."""
        return self._app.obstacles()

    def release(self) -> None:
        """Let the batches go that the awaited deliveries may wait in."""
        for gathering in self._gatherings:
            gathering.release()


class _Gatherer(Protocol):
    @property
    def gatherings(self) -> Iterable[Gathering]: ...


def home_of(app: Home, targets: Iterable[_Gatherer]) -> ReceiptHome:
    """Return the home of a receipt with deliveries to these targets."""
    gatherings = tuple(dict.fromkeys(one for target in targets for one in target.gatherings))
    return GatheringHome(app, gatherings) if gatherings else app
