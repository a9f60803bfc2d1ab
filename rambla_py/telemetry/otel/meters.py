"""Metrics of an app for OpenTelemetry."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.status import TargetStatus
    from rambla_py.telemetry.observer import ObservedTarget
    from rambla_py.telemetry.otel.targets import Targets

__all__ = ["Meters"]

log = logging.getLogger("rambla_py.telemetry")

_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class Measured(Protocol):
    """An app, as its metrics need it."""

    def status(self) -> dict[str, TargetStatus]:
        """Return the status of each target."""


class _Spec(NamedTuple):
    name: str
    unit: str
    text: str
    value: Callable[[TargetStatus], float]


_COUNTERS: Final = (
    _Spec("rambla.accepted", "{message}", "Deliveries accepted", lambda one: one.accepted),
    _Spec("rambla.refused", "{call}", "Publishes that raised MailboxFullError", lambda one: one.refused),
    _Spec("rambla.lost_connections", "{connection}", "Lost in use", lambda one: one.lost_connections),
    _Spec("rambla.restarts", "{restart}", "Workers and servers replaced", lambda one: one.restarts),
)
_GAUGES: Final = (
    _Spec("rambla.queued", "{message}", "Deliveries that wait", lambda one: one.queued),
    _Spec("rambla.queued_limit", "{message}", "How many may wait", lambda one: one.max_pending),
    _Spec("rambla.oldest", "s", "Age of the oldest that waits", lambda one: one.oldest_s or 0.0),
    _Spec("rambla.in_flight", "{message}", "Deliveries with a handler", lambda one: one.in_flight),
)


class Meters:
    """Observable instruments that read the status of an app, and an observer of the calls of its handlers.

    ``app`` returns the app, None once it is gone. After ``end`` nothing is observed: the interface of
    OpenTelemetry has no way to remove an instrument.
    """

    def __init__(self, app: Callable[[], Measured | None], meter: Meter, targets: Targets) -> None:
        self._app: Callable[[], Measured | None] = app
        self._targets = targets
        self._failed = False
        for spec in _COUNTERS:
            meter.create_observable_counter(spec.name, [self._reader(spec)], spec.unit, spec.text)
        for spec in _GAUGES:
            meter.create_observable_gauge(spec.name, [self._reader(spec)], spec.unit, spec.text)
        text = "Deliveries that ended, by status"
        meter.create_observable_counter("rambla.outcomes", [self._outcomes], "{message}", text)
        self._sent = meter.create_counter("messaging.client.sent.messages", "{message}", "Messages sent")
        self._took = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "Time of a call of a handler",
            explicit_bucket_boundaries_advisory=_BUCKETS_S,
        )

    def end(self) -> None:
        """Observe nothing from now on."""
        self._app = _gone

    def attempted(
        self,
        target: ObservedTarget,
        deliveries: Sequence[Delivery[Any]],
        started_at: float,
        ended_at: float,
        error: BaseException | None,
    ) -> None:
        """Count what was sent, and one call of the handler."""
        attributes = dict(self._targets.of(target).send)
        if error is not None:
            attributes["error.type"] = type(error).__name__
        self._sent.add(len(deliveries), attributes)
        self._took.record(ended_at - started_at, attributes)

    def _reader(self, spec: _Spec) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(options: CallbackOptions) -> list[Observation]:
            return [Observation(spec.value(one), _where(one)) for one in self._status()]

        return read

    def _outcomes(self, options: CallbackOptions) -> Iterator[Observation]:
        for one in self._status():
            for status, count in one.statuses.items():
                yield Observation(count, {**_where(one), "rambla.status": status})

    def _status(self) -> list[TargetStatus]:
        app = self._app()
        try:
            return [] if app is None else list(app.status().values())
        except Exception as error:  # a collection must not fail as a whole
            if not self._failed:
                self._failed = True
                log.warning("metrics could not be read: %s", type(error).__name__)
            return []


def _where(target: TargetStatus) -> dict[str, str]:
    return {"rambla.service": target.service, "rambla.channel": target.channel}


def _gone() -> None:
    return None
