"""Status and accounts of one target at one point in time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from rambla_py.status import Audit, HistogramStatus, TargetStatus
from rambla_py.telemetry.records import target_extra

if TYPE_CHECKING:
    from rambla_py.runtime.target.histograms import Histogram, Times
    from rambla_py.runtime.target.target import Target

__all__ = ["audit_of", "obstacle", "status_of"]

log = logging.getLogger("rambla_py")

_NOTHING: Final = Audit(0, ok=0, failed=0, fatal=0, dropped=0, expired=0, unknown=0, pending=0)
_NOT_REACHED: Final = ("connecting", "blocked", "down")


def audit_of(target: Target | None) -> Audit:
    """Return the accounts; pending deliveries are counted first, so that none is missed."""
    if target is None:  # it was not made, for want of a message
        return _NOTHING
    pending = target.pending()
    return Audit(accepted=target.counters.accepted(), pending=pending, **target.counters.statuses)


def status_of(target: Target, redact: Callable[[str], str]) -> TargetStatus:
    """Return the status of a target; ``redact`` masks the secrets in a string."""
    config, counters, wakeup = target.config, target.counters, target.wakeup
    now, offset = time.monotonic(), time.time() - time.monotonic()
    oldest_at = target.mailbox.first_accepted_at()
    state, since = target.state.read()
    times = counters.times
    return TargetStatus(
        service=target.service,
        channel=target.channel,
        handler=config.handler.__name__,
        state=state,
        since=since,
        why=_why(target) if state in _NOT_REACHED else None,
        endpoint=_endpoint(target, redact),
        workers=wakeup.workers.states(),
        queued=len(target.mailbox),
        max_pending=config.max_pending,
        in_outbox=counters.in_outbox,
        dead_waiting=0 if target.durability is None else target.durability.dead_waiting,
        oldest_s=None if oldest_at is None else max(0.0, now - oldest_at),
        in_flight=target.in_flight(),
        statuses={str(status): count for status, count in counters.statuses.items()},
        reasons=dict(counters.reasons),
        refused=counters.refused,
        batches=counters.batches,
        lost_connections=counters.lost_connections,
        restarts=counters.restarts,
        abandoned=sum(worker.is_alive() for worker in wakeup.abandoned),
        last_ok_at=_epoch(counters.last_ok, offset),
        last_error=counters.last_error,
        last_error_type=counters.last_error_type,
        last_error_at=_epoch(counters.last_failure, offset),
        times={} if times is None else _histograms(times),
        on_unknown=config.on_unknown,
        guarantee=config.handler.guarantee or None,
        # Read last, so that no more deliveries have ended than were accepted.
        accepted=counters.accepted(),
    )


def obstacle(target: Target) -> str | None:
    """Return why messages that wait cannot be attempted now, redacted; None if none waits, or if they can."""
    state, waiting = target.state.name, len(target.mailbox) or target.in_flight()
    if not waiting or state not in _NOT_REACHED:
        return None
    why = _why(target)
    return f"{target.config.name} is {state}" + (f": {why}" if why else "")


def _why(target: Target) -> str | None:
    """Return why it is not up, redacted: what was reported, or why nothing connects."""
    error = target.state.connect_error
    return target.state.why or (None if error is None else target.error_text(error))


def _endpoint(target: Target, redact: Callable[[str], str]) -> str | None:
    """Return where the connection leads; settings do not change, so that the handler is asked once."""
    if target.endpoint is None:
        target.endpoint = (_described(target, redact),)
    return target.endpoint[0]


def _described(target: Target, redact: Callable[[str], str]) -> str | None:
    config = target.config
    try:
        endpoint = config.handler.endpoint(config.settings)
    except Exception as error:  # user code
        extra = target_extra(config)
        log.debug("%s: endpoint raised %s", config.name, target.error_text(error), extra=extra)
        return None
    return None if endpoint is None else redact(endpoint)


def _epoch(at: float | None, offset: float) -> float | None:
    return None if at is None else at + offset


def _histograms(times: Times) -> dict[str, HistogramStatus]:
    named = {"delivery": times.delivery, "queue": times.queue, "attempt": times.attempt}
    return {name: _histogram(histogram) for name, histogram in named.items()}


def _histogram(histogram: Histogram) -> HistogramStatus:
    return HistogramStatus(histogram.bounds, tuple(histogram.counts), histogram.sum_s)
