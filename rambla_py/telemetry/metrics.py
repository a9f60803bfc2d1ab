"""Figures of apps, by the names of their metrics."""

from __future__ import annotations

import functools
import logging
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar

from rambla_py.status import HistogramStatus, TargetStatus

__all__ = [
    "MOST_ERRORS",
    "SPECS",
    "STATES",
    "Measured",
    "Reader",
    "Sink",
    "Spec",
    "bounds_of",
    "reason_counts",
    "versions",
]

log = logging.getLogger("rambla_py.telemetry")

STATES: Final = ("disabled", "idle", "connecting", "up", "blocked", "down", "closing", "closed")
MOST_ERRORS: Final = 50
"""Names of errors of a target; further ones are counted as ``other``."""
_KINDS: Final = ("attempt", "lost", "connect", "callback")

_TARGET: Final = ("service", "channel")

Who = TypeVar("Who")


class Measured(Protocol):
    """An app, as its metrics need it."""

    config: Any

    def status(self) -> dict[str, TargetStatus]:
        """Return the status of each target."""

    @property
    def outbox(self) -> Any:
        """The view of its outbox."""


class Spec(NamedTuple):
    """One metric, without the prefix of its name and the ``_total`` of a counter."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = _TARGET


SPECS: Final = (
    Spec("accepted", "counter", "Deliveries accepted"),
    Spec("outcomes", "counter", "Deliveries that ended, by status", (*_TARGET, "status")),
    Spec("reasons", "counter", "Failures and ends by error or reason", (*_TARGET, "kind", "error")),
    Spec("refused", "counter", "Publishes that raised MailboxFullError"),
    Spec("queued", "gauge", "Deliveries that wait"),
    Spec("queued_limit", "gauge", "How many deliveries may wait: max_pending"),
    Spec("oldest_seconds", "gauge", "Age of the oldest delivery that waits; 0 if none does"),
    Spec("in_flight", "gauge", "Deliveries handed to a handler"),
    Spec("workers", "gauge", "Workers by state", (*_TARGET, "state")),
    Spec("state", "gauge", "1 for the state of the target, 0 for the others", (*_TARGET, "state")),
    Spec("abandoned_threads", "gauge", "Threads that are stuck in user code"),
    Spec("lost_connections", "counter", "Connections lost in use"),
    Spec("restarts", "counter", "Workers and external servers that died and were replaced"),
    Spec("delivery_seconds", "histogram", "Time from acceptance to success"),
    Spec("queue_seconds", "histogram", "Time from acceptance to the start of the attempt that succeeded"),
    Spec("attempt_seconds", "histogram", "Time of each attempt, failed ones too"),
    Spec("outbox_pending", "gauge", "Messages in the outbox", ()),
    Spec("outbox_oldest_seconds", "gauge", "Age of the oldest message in the outbox; 0 if none is", ()),
    Spec("dead_letters", "gauge", "Dead letters in the outbox", ()),
    Spec("info", "gauge", "Versions", ("version", "python")),
)


class Sink(Protocol[Who]):
    """Takes samples; ``Who`` is what it makes of labels that many samples share."""

    def labels(self, **labels: str) -> Who:
        """Return labels for ``add``."""

    def add(self, metric: str, who: Who, value: float, **more: str) -> None:
        """Add a sample."""

    def add_each(self, metric: str, who: Who, label: str, values: Iterable[tuple[str, float]]) -> None:
        """Add a sample for each value of one more label."""

    def add_histogram(
        self, metric: str, who: Who, bounds: Sequence[str], counts: Sequence[int], sum_s: float
    ) -> None:
        """Add a histogram with cumulative counts, the last of which is that of all."""


class Reader:
    """Reads the status of apps into a sink. An app whose status fails is left out, and logged once a class.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._failed: set[type] = set()

    def read(self, sink: Sink[Any], app: Measured, common: Mapping[str, str]) -> None:
        """Add what an app shows now; its samples have ``common`` as labels, too."""
        for read in (_read_targets, _read_outbox):
            try:
                read(sink, app, common)
            except Exception as error:  # a scrape must not fail as a whole
                self._log_once(error)

    def _log_once(self, error: Exception) -> None:
        if type(error) not in self._failed:
            self._failed.add(type(error))
            kind = type(error).__name__
            log.warning("metrics could not be read: %s; further such failures are not logged", kind)


def versions() -> dict[str, str]:
    """Return the labels of the metric ``info``."""
    return {"version": sys.modules["rambla_py"].__version__, "python": platform.python_version()}


@functools.lru_cache(maxsize=16)
def bounds_of(bounds_s: tuple[float, ...]) -> tuple[str, ...]:
    """Return the values of the label ``le``.

    >>> bounds_of((0.005, 10))
    ('0.005', '10.0', '+Inf')
    """
    return (*[repr(float(bound)) for bound in bounds_s], "+Inf")


def reason_counts(reasons: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """Return the counts by kind and error; reasons without a kind are those of ends.

    >>> reason_counts({"attempt:ValueError": 2, "mailbox full": 1})
    {('attempt', 'ValueError'): 2, ('end', 'mailbox full'): 1}
    """
    counts: Counter[tuple[str, str]] = Counter()
    known: set[str] = set()
    for reason, count in reasons.items():  # in the order of their first occurrence, which never changes
        kind, colon, error = reason.partition(":")
        if not colon or kind not in _KINDS:
            kind, error = "end", reason
        if len(known) < MOST_ERRORS:
            known.add(error)
        counts[kind, error if error in known else "other"] += count
    return dict(counts)


def _read_targets(sink: Sink[Any], app: Measured, common: Mapping[str, str]) -> None:
    for target in app.status().values():
        who = sink.labels(**common, service=target.service, channel=target.channel)
        _add_target(sink, who, target)


def _add_target(sink: Sink[Any], who: Any, target: TargetStatus) -> None:
    add, add_each, workers = sink.add, sink.add_each, target.workers
    add("accepted", who, target.accepted)
    add("refused", who, target.refused)
    add("queued", who, target.queued)
    add("queued_limit", who, target.max_pending)
    add("oldest_seconds", who, target.oldest_s or 0.0)
    add("in_flight", who, target.in_flight)
    add("abandoned_threads", who, target.abandoned)
    add("lost_connections", who, target.lost_connections)
    add("restarts", who, target.restarts)
    add_each("outcomes", who, "status", target.statuses.items())
    for (kind, error), count in reason_counts(target.reasons).items():
        add("reasons", who, count, kind=kind, error=error)
    add_each("workers", who, "state", [(state, workers.count(state)) for state in STATES])
    add_each("state", who, "state", [(state, int(state == target.state)) for state in STATES])
    for name, times in target.times.items():
        _add_histogram(sink, f"{name}_seconds", who, times)


def _add_histogram(sink: Sink[Any], metric: str, who: Any, times: HistogramStatus) -> None:
    sink.add_histogram(metric, who, bounds_of(times.bounds_s), list(accumulate(times.counts)), times.sum_s)


def _read_outbox(sink: Sink[Any], app: Measured, common: Mapping[str, str]) -> None:
    if app.outbox.running is None:
        return
    totals, oldest_s = app.outbox.totals()
    labels = sink.labels(**common)
    sink.add("outbox_pending", labels, totals.rows)
    sink.add("outbox_oldest_seconds", labels, oldest_s)
    sink.add("dead_letters", labels, totals.dead)
