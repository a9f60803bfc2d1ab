"""Reconnect schedule of one worker, with its log lines."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

from rambla_py._internal.tracebacks import drop_tracebacks
from rambla_py.errors import AccessError
from rambla_py.policy import RECONNECT, Backoff, backoff_delay
from rambla_py.runtime.delivery.dispatch import RenewalError
from rambla_py.runtime.target.isolation import LARGEST_GROUP
from rambla_py.runtime.target.refusal import report_refusal
from rambla_py.telemetry.records import error_extra, target_extra

if TYPE_CHECKING:
    from rambla_py.runtime.target.target import Target
    from rambla_py.telemetry.observer import ConnectionState

__all__ = ["Reconnect"]

log = logging.getLogger("rambla_py.worker")

_STOPPING_S = 1.0
_QUIET_S = 10.0
_SUSPECTED_WAIT_S = 0.25
_HALVINGS = LARGEST_GROUP.bit_length() + 1


class Reconnect:
    """When a worker reconnects (``retry_at``); logs and reports the state of its connection.

    Back-off resets only after a connection has delivered something, so that a server which accepts
    connections and drops them is not reconnected to in a tight loop.
    """

    def __init__(self, target: Target, index: int, *, isolated: bool = False) -> None:
        self.refused = False
        self._retry_at = 0.0
        self._failed_at = 0.0
        self._backoff = Backoff(
            min(RECONNECT.initial_s, target.config.max_reconnect_s),
            RECONNECT.multiplier,
            target.config.max_reconnect_s,
        )
        self._target, self._index, self._isolated = target, index, isolated
        self._extra = target_extra(target.config, index)
        self._failures = 0
        self._logged = False
        self._ok_before = 0
        self._away_since: float | None = None
        self._losses = _Losses()

    @property
    def retry_at(self) -> float:
        """When to connect again; during a stop at least every second."""
        stop_at = self._target.state.stop_at
        return self._retry_at if stop_at is None else min(self._retry_at, self._failed_at + _STOPPING_S)

    def connected(self) -> None:
        """Record a successful connect; back-off resets only after the first delivery succeeds."""
        target = self._target
        self.refused = self._logged = False
        self._ok_before = target.counters.statuses["ok"]
        if self._away_since is not None:
            log.log(
                logging.INFO if self._losses.logged else logging.DEBUG,
                "%s: worker %d reconnected after %.1f s; %d messages waiting",
                target.config.name,
                self._index,
                time.monotonic() - self._away_since,
                len(target.mailbox),
                extra=self._extra,
            )
            self._away_since = None
        target.state.connected()
        self._report("up", None)

    def failed(self, error: BaseException) -> None:
        """Record a failed connect; of an outage the first is logged, and the first refusal of access."""
        self.refused = isinstance(error, AccessError)
        self._begin_outage()
        self._failures += 1
        if isinstance(error, AccessError):
            report_refusal(self._target, error, self._index)
            self._wait(self._target.config.slow_restart_s)
        else:
            self._report_failure(error)
            self._wait(backoff_delay(self._backoff, self._failures, random.uniform(0.5, 1.0)))
        self._logged = True

    def _report_failure(self, error: BaseException) -> None:
        target = self._target
        target.counters.note(f"connect:{type(error).__name__}", error)
        target.state.connect_failed(error)
        if not self._logged:
            self._log(logging.WARNING, "cannot connect and keeps trying", error)
            self._losses.logged = True
        self._report("failing", error)
        if not target.collaborators.debug:
            drop_tracebacks(error)

    def lost(self, error: BaseException, *, suspected: bool) -> None:
        """Record a lost connection, or one that was closed as a precaution.

        ``suspected``: only suspects were in flight, so the loss says little about the server.
        """
        target = self._target
        if isinstance(error, RenewalError):
            self._report("renewed", error)
            return
        target.counters.lose_connection()
        # The wait grows for a server that accepts connections and drops them.
        useful = target.counters.statuses["ok"] > self._ok_before
        self._failures = 1 if useful else self._failures + 1
        self._wait(self._wait_after_loss(suspected))
        if not self._isolated:  # an isolated worker is expected to lose connections
            self._begin_outage()
        self._log_loss(error)
        self._report("lost", error)

    def _wait_after_loss(self, suspected: bool) -> float:
        """Return the wait before the next connect; none while a group of suspects is being halved."""
        wait_s = backoff_delay(self._backoff, self._failures, random.random())
        if not suspected:
            return wait_s
        return 0.0 if self._failures <= _HALVINGS else min(wait_s, _SUSPECTED_WAIT_S)

    def held(self, held: bool) -> None:
        """Report that the backend has blocked the connection, or unblocked it."""
        self._report("blocked" if held else "up", None)

    def _begin_outage(self) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()

    def _log_loss(self, error: BaseException) -> None:
        """Log a loss; one that repeats is logged every ten seconds, with the number of those since."""
        number = self._losses.add(str(error), time.monotonic())
        what = "lost its connection" + (f" {number} times" if number > 1 else "")
        self._log(logging.WARNING if number and not self._isolated else logging.DEBUG, what, error)

    def _log(self, level: int, what: str, error: BaseException) -> None:
        target = self._target
        text = target.error_text(error)
        extra = {**self._extra, **error_extra(error, text)}
        log.log(level, "%s: worker %d %s: %s", target.config.name, self._index, what, text, extra=extra)

    def _report(self, state: ConnectionState, error: BaseException | None) -> None:
        for connection in self._target.observers.connection:
            connection(self._target.config, self._index, state, error)

    def _wait(self, wait_s: float) -> None:
        self._failed_at = time.monotonic()
        self._retry_at = self._failed_at + wait_s


class _Losses:
    """Which losses are logged: of those with the same text, one in ten seconds.

    A probe of a target that is down may lose its connection each time, for hours. ``logged`` is whether the
    outage that the last one began was logged: then its end is, too.
    """

    __slots__ = ("_at", "_text", "_unlogged", "logged")

    def __init__(self) -> None:
        self.logged = True
        self._text, self._at, self._unlogged = "", 0.0, 0

    def add(self, text: str, now: float) -> int:
        """Return how many losses a line about this one speaks for; 0 if none is to be written."""
        self.logged = text != self._text or now >= self._at + _QUIET_S
        if not self.logged:
            self._unlogged += 1
            return 0
        number = 1 + (self._unlogged if text == self._text else 0)
        self._text, self._at, self._unlogged = text, now, 0
        return number
