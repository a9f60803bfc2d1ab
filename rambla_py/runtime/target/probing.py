"""Probing: holds deliveries back while their backend is unavailable, and sends probes."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rambla_py.errors import AccessError, UnavailableError
from rambla_py.runtime.target.availability import (
    TARGET,
    AtFault,
    Availability,
    KnownScopes,
    Outage,
    WaitAlone,
)
from rambla_py.telemetry.records import error_extra, target_extra

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.delivery import LiveDelivery
    from rambla_py.runtime.target.counters import Counters
    from rambla_py.runtime.target.mailbox import Mailbox
    from rambla_py.runtime.target.state import TargetState
    from rambla_py.runtime.target.wakeup import TargetTimer, Wakeup
    from rambla_py.telemetry.observer import ConnectionState
    from rambla_py.telemetry.observers import Observers

__all__ = ["Probing"]

log = logging.getLogger("rambla_py.delivery")


class Probing:
    """Applies the decisions of ``availability`` to the mailbox of one target. Thread-safe.

    ``active``: there is an outage. ``scoped``: there is one of a scope that follows from the options of a
    delivery. ``park`` holds one delivery until a time.
    """

    def __init__(
        self,
        config: ChannelConfig,
        *,
        mailbox: Mailbox,
        counters: Counters,
        state: TargetState,
        wakeup: Wakeup,
        timer: TargetTimer,
        observers: Observers,
        error_text: Callable[[BaseException], str],
        park: Callable[[LiveDelivery, float], None],
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self.active = self.scoped = False
        self._scopes = KnownScopes() if config.handler.scope_by_options else None
        self._config, self._observers, self._paused_by = config, observers, 0
        self._name, self._extra = config.name, target_extra(config)
        self._mailbox, self._counters, self._state = mailbox, counters, state
        self._wakeup, self._timer, self._error_text, self._park = wakeup, timer, error_text, park
        self._availability = Availability(
            max_probe_s=config.max_reconnect_s, max_unavailable_s=config.max_unavailable_s, uniform=uniform
        )

    def refused(
        self, delivery: LiveDelivery, error: UnavailableError | AccessError, now: float, *, worker: int = 0
    ) -> bool:
        """Hold a delivery back after an attempt of ``worker`` for which its backend was unavailable.

        Returns False if the delivery itself is at fault: the attempt counts as failed.
        """
        scope = TARGET if isinstance(error, AccessError) else error.scope
        with self._mailbox.lock:
            verdict = self._availability.refused(
                delivery,
                scope,
                state="down" if isinstance(error, AccessError) else "blocked",
                retry_after_s=error.retry_after_s,
                delivered=self._counters.statuses["ok"],
                now=now,
            )
            if isinstance(verdict, AtFault):
                return False
            if not isinstance(verdict, WaitAlone):
                self._hold(delivery, verdict.outage)
        if isinstance(verdict, WaitAlone):
            self._park(delivery, verdict.due)
        elif verdict.began:
            self._report(verdict.outage, error, worker)
        self._changed()
        return True

    def hold_known(self, batch: list[LiveDelivery]) -> list[LiveDelivery]:
        """Hold back what would be refused as others of its scope were; return the rest, probes included."""
        with self._mailbox.lock:
            kept = []
            for delivery in batch:
                outage = self._outage_of(delivery)
                if outage is None:
                    kept.append(delivery)
                else:
                    outage.waiting.append(delivery)
                    self._hold(delivery, outage)
        return kept

    def _outage_of(self, delivery: LiveDelivery) -> Outage | None:
        if self._scopes is None or (delivery.history is not None and delivery.history.probing is not None):
            return None
        scope = self._scopes.of(delivery.options)
        return None if scope is None else self._availability.outages.get(scope)

    def succeeded(self, deliveries: Sequence[LiveDelivery], now: float) -> None:
        """End the outages for which one of these was the probe."""
        for delivery in deliveries:
            with self._mailbox.lock:
                outage = self._availability.succeeded(delivery)
                if outage is not None:
                    self._resume(outage)
                    self._mailbox.release(outage.waiting)
            if outage is not None:
                log.warning(
                    "%s: %s after %.1f s",
                    self._name,
                    _available(outage),
                    now - outage.since,
                    extra=self._extra,
                )
                if outage.scope == TARGET:
                    self._observe(self._paused_by, "up")
                self._changed()

    def inconclusive(self, delivery: LiveDelivery) -> None:
        """Schedule another probe in place of one without a conclusive result."""
        with self._mailbox.lock:
            self._availability.inconclusive(delivery, time.monotonic())
        self._changed()

    def send_due(self, now: float) -> None:
        """Queue the probes that are due; an outage for which nothing waits ends."""
        with self._mailbox.lock:
            for outage in self._availability.take_due(now):
                held, scope = outage.waiting, outage.scope
                if not self._mailbox.queue_probe(held, scope, fresh_first=scope == TARGET):
                    self._availability.end(outage)
                    self._resume(outage)
        self._changed()

    def next_due(self) -> float | None:
        """Return when the next probe is due."""
        with self._mailbox.lock:
            return self._availability.next_due()

    def stop_at(self, deadline: float) -> list[LiveDelivery]:
        """Probe at once and often until ``deadline``; return deliveries that no probe can release by then."""
        with self._mailbox.lock:
            self._availability.hurry(time.monotonic())
            late = [outage for outage in self._availability.outages.values() if outage.earliest > deadline]
            return [one for outage in late for one in self._give_up(outage)]

    def _give_up(self, outage: Outage) -> Iterable[LiveDelivery]:
        if outage.scope == TARGET:
            return self._mailbox.take_all()
        return self._mailbox.take_held(outage.waiting)

    def _hold(self, delivery: LiveDelivery, outage: Outage) -> None:
        whole = outage.scope == TARGET
        self._mailbox.hold(delivery, retry=not whole)
        self.active = True
        if not whole and self._scopes is not None:
            self._scopes.learn(delivery.options, outage.scope)
            self.scoped = True
        if whole:
            self._mailbox.pause(True)
        if len(outage.waiting) > 2 * len(self._mailbox) + 64:
            still = [one for one in outage.waiting if self._mailbox.holds(one)]
            outage.waiting.clear()
            outage.waiting.extend(still)

    def _resume(self, outage: Outage) -> None:
        self.active = bool(self._availability.outages)
        self.scoped = self.scoped and self.active
        if outage.scope == TARGET:
            self._mailbox.pause(False)
            self._state.recovered(by="backend")

    def _report(self, outage: Outage, error: BaseException, worker: int) -> None:
        text = self._error_text(error)
        extra = {**self._extra, **error_extra(error, text)}
        if outage.scope == TARGET:
            self._paused_by = worker
            self._observe(worker, outage.state, error)
        if outage.state == "down":
            log.error("%s is down and probes until access is granted: %s", self._name, text, extra=extra)
            self._state.down(text, by="backend")
            return
        log.warning("%s: %s: %s", self._name, _unavailable(outage), text, extra=extra)
        if outage.scope == TARGET:
            self._state.blocked(text, by="backend")

    def _observe(self, worker: int, state: ConnectionState, error: BaseException | None = None) -> None:
        for connection in self._observers.connection:
            connection(self._config, worker, state, error)

    def _changed(self) -> None:
        """Wake workers and the timer; after the stop, this drops what is still waiting."""
        self._timer.run_by(self.next_due())
        self._wakeup.wake_all()
        if self._state.closed:
            self._wakeup.wake()


def _unavailable(outage: Outage) -> str:
    return "unavailable" if outage.scope == TARGET else f"{outage.scope} is unavailable"


def _available(outage: Outage) -> str:
    return "available again" if outage.scope == TARGET else f"{outage.scope} is available again"
