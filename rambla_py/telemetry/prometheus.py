"""Metrics of apps for Prometheus (extra ``prometheus``)."""

from __future__ import annotations

import functools
import logging
import platform
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Final, NamedTuple, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from rambla_py.errors import TelemetryError
from rambla_py.status import HistogramStatus, TargetStatus

__all__ = ["RamblaCollector", "register"]

log = logging.getLogger("rambla_py.telemetry")

STATES: Final = ("disabled", "idle", "connecting", "up", "blocked", "down", "closing", "closed")
MOST_ERRORS: Final = 50
"""Names of errors of a target; further ones are counted as ``other``."""
_KINDS: Final = ("attempt", "lost", "connect", "callback")

_TARGET: Final = ("service", "channel")


class Measured(Protocol):
    """An app, as its metrics need it."""

    config: Any

    def status(self) -> dict[str, TargetStatus]:
        """Return the status of each target."""

    @property
    def outbox(self) -> Any:
        """The view of its outbox."""


class _Spec(NamedTuple):
    name: str
    family: Any
    text: str
    labels: tuple[str, ...] = _TARGET


_COUNTER, _GAUGE, _HISTOGRAM = CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
_SPECS: Final = (
    _Spec("accepted", _COUNTER, "Deliveries accepted"),
    _Spec("outcomes", _COUNTER, "Deliveries that ended, by status", (*_TARGET, "status")),
    _Spec("reasons", _COUNTER, "Failures and ends by error or reason", (*_TARGET, "kind", "error")),
    _Spec("refused", _COUNTER, "Publishes that raised MailboxFullError"),
    _Spec("queued", _GAUGE, "Deliveries that wait"),
    _Spec("queued_limit", _GAUGE, "How many deliveries may wait: max_pending"),
    _Spec("oldest_seconds", _GAUGE, "Age of the oldest delivery that waits; 0 if none does"),
    _Spec("in_flight", _GAUGE, "Deliveries handed to a handler"),
    _Spec("workers", _GAUGE, "Workers by state", (*_TARGET, "state")),
    _Spec("state", _GAUGE, "1 for the state of the target, 0 for the others", (*_TARGET, "state")),
    _Spec("abandoned_threads", _GAUGE, "Threads that are stuck in user code"),
    _Spec("lost_connections", _COUNTER, "Connections lost in use"),
    _Spec("restarts", _COUNTER, "Workers and external servers that died and were replaced"),
    _Spec("delivery_seconds", _HISTOGRAM, "Time from acceptance to success"),
    _Spec("queue_seconds", _HISTOGRAM, "Time from acceptance to the start of the attempt that succeeded"),
    _Spec("attempt_seconds", _HISTOGRAM, "Time of each attempt, failed ones too"),
    _Spec("outbox_pending", _GAUGE, "Messages in the outbox", ()),
    _Spec("outbox_oldest_seconds", _GAUGE, "Age of the oldest message in the outbox; 0 if none is", ()),
    _Spec("dead_letters", _GAUGE, "Dead letters in the outbox", ()),
)


class RamblaCollector(Collector):
    """Reads the status of apps when it is scraped; between scrapes it costs nothing.

    ``register`` makes one. ``prefix`` begins every name; ``name`` is the label ``app``, which is left out
    while no app has a name. ``collect`` never raises: an app whose status fails is left out of a scrape.
    Thread-safe.
    """

    def __init__(self, app: Measured, *, prefix: str = "rambla", name: str = "") -> None:
        self.prefix = prefix
        self._apps: tuple[tuple[str, Measured], ...] = ((name, app),)
        self._failed: set[type] = set()

    @property
    def apps(self) -> list[Measured]:
        """The apps that it reads."""
        return [app for _, app in self._apps]

    def add(self, app: Measured, name: str = "") -> None:
        """Read one more app; raises ``TelemetryError`` unless its name is another one."""
        taken = [other for other, _ in self._apps]
        if not name or name in taken or "" in taken:
            given = f"got {name!r} beside {', '.join(map(repr, taken))}"
            raise TelemetryError(
                f"several apps in one registry: expected a different name= for each; {given}"
            )
        self._apps = (*self._apps, (name, app))

    def remove(self, app: Measured) -> None:
        """Read an app no more."""
        self._apps = tuple(entry for entry in self._apps if entry[1] is not app)

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without samples, from which a registry learns their names."""
        return _Families(self.prefix, named=False).all()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        apps = self._apps
        families = _Families(self.prefix, named=any(name for name, _ in apps))
        for name, app in apps:
            for read in (_read_targets, _read_outbox):
                try:
                    read(families, name, app)
                except Exception as error:  # a scrape must not fail as a whole
                    self._log_once(error)
        yield from families.all()

    def _log_once(self, error: Exception) -> None:
        if type(error) not in self._failed:
            self._failed.add(type(error))
            kind = type(error).__name__
            log.warning("metrics could not be read: %s; further such failures are not logged", kind)


class _Families:
    """The metrics of one scrape."""

    def __init__(self, prefix: str, *, named: bool) -> None:
        self._named = named
        lead = ("app",) if named else ()
        self._families: dict[str, Metric] = {
            spec.name: spec.family(f"{prefix}_{spec.name}", spec.text, labels=[*lead, *spec.labels])
            for spec in _SPECS
        }
        # Samples are made here: add_metric() pairs names and values of labels again for each of them.
        self._series = {
            spec.name: (
                f"{prefix}_{spec.name}{'_total' if spec.family is _COUNTER else ''}",
                self._families[spec.name].samples,
            )
            for spec in _SPECS
        }
        self._info = GaugeMetricFamily(f"{prefix}_info", "Versions", labels=["version", "python"])
        self._info.add_metric([sys.modules["rambla_py"].__version__, platform.python_version()], 1)

    def all(self) -> list[Metric]:
        return [*self._families.values(), self._info]

    def labels(self, app: str, **labels: str) -> dict[str, str]:
        return {"app": app, **labels} if self._named else labels

    def add(self, metric: str, labels: dict[str, str], value: float) -> None:
        name, samples = self._series[metric]
        samples.append(Sample(name, labels, value))

    def add_each(
        self, metric: str, who: dict[str, str], label: str, values: Iterable[tuple[str, float]]
    ) -> None:
        name, samples = self._series[metric]
        samples.extend([Sample(name, {**who, label: text}, value) for text, value in values])

    def add_histogram(self, metric: str, who: dict[str, str], times: HistogramStatus) -> None:
        name, samples = self._series[metric]
        bucket, counts = f"{name}_bucket", list(accumulate(times.counts))
        bounds = zip(_bounds(times.bounds_s), counts, strict=True)
        samples.extend([Sample(bucket, {**who, "le": bound}, count) for bound, count in bounds])
        samples += Sample(f"{name}_count", who, counts[-1]), Sample(f"{name}_sum", who, times.sum_s)


@functools.lru_cache(maxsize=16)
def _bounds(bounds_s: tuple[float, ...]) -> list[str]:
    return [*map(floatToGoString, bounds_s), "+Inf"]


def _read_targets(families: _Families, app_name: str, app: Measured) -> None:
    for target in app.status().values():
        who = families.labels(app_name, service=target.service, channel=target.channel)
        _add_target(families, who, target)


def _add_target(families: _Families, who: dict[str, str], target: TargetStatus) -> None:
    add, add_each = families.add, families.add_each
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
        add("reasons", {**who, "kind": kind, "error": error}, count)
    workers = target.workers
    add_each("workers", who, "state", [(state, workers.count(state)) for state in STATES])
    add_each("state", who, "state", [(state, float(state == target.state)) for state in STATES])
    for times, histogram in target.times.items():
        families.add_histogram(f"{times}_seconds", who, histogram)


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


def _read_outbox(families: _Families, app_name: str, app: Measured) -> None:
    if app.outbox.running is None:
        return
    totals, oldest_s = app.outbox.totals()
    labels = families.labels(app_name)
    families.add("outbox_pending", labels, totals.rows)
    families.add("outbox_oldest_seconds", labels, oldest_s)
    families.add("dead_letters", labels, totals.dead)


_lock = threading.Lock()
_collectors: weakref.WeakKeyDictionary[CollectorRegistry, RamblaCollector] = weakref.WeakKeyDictionary()
"""The collector of ours in each registry: two would give every name twice, which is no valid scrape."""


def register(
    app: Measured, registry: CollectorRegistry = REGISTRY, *, prefix: str = "rambla", name: str | None = None
) -> Callable[[], None]:
    """Put the metrics of an app into a registry; return a function that takes them out again.

    Registering an app a second time changes nothing. Several apps in a registry need a ``name`` each, which
    is the label ``app``; its default is that of ``[rambla.telemetry]``. The prefix is that of the first.

    Raises ``TelemetryError`` for a second app without a name of its own, and ``ValueError``, by the registry,
    when another collector has metrics of these names.
    """
    name = app.config.rambla.telemetry.name or "" if name is None else name
    with _lock:
        collector = _collectors.get(registry)
        if collector is None:
            collector = RamblaCollector(app, prefix=prefix, name=name)
            registry.register(collector)
            _collectors[registry] = collector
        elif app not in collector.apps:
            collector.add(app, name)
    return lambda: _unregister(app, registry)


def _unregister(app: Measured, registry: CollectorRegistry) -> None:
    with _lock:
        collector = _collectors.get(registry)
        if collector is None:
            return
        collector.remove(app)
        if not collector.apps:
            del _collectors[registry]
            registry.unregister(collector)
