"""Metrics of apps for Prometheus (extra ``prometheus``)."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry
from prometheus_client.samples import Sample

from rambla_py.errors import TelemetryError
from rambla_py.telemetry.metrics import SPECS, Measured, Reader, versions

__all__ = ["RamblaCollector", "register"]

_FAMILIES: Final[dict[str, Any]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


class RamblaCollector(Collector):
    """Reads the status of apps when it is scraped; between scrapes it costs nothing.

    ``register`` makes one. ``prefix`` begins every name; ``name`` is the label ``app``, which is left out
    while no app has a name. ``collect`` never raises: an app whose status fails is left out of a scrape.
    Thread-safe.
    """

    def __init__(self, app: Measured, *, prefix: str = "rambla", name: str = "") -> None:
        self.prefix = prefix
        self._apps: tuple[tuple[str, Measured], ...] = ((name, app),)
        self._reader = Reader()

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
        named = any(name for name, _ in apps)
        families = _Families(self.prefix, named=named)
        for name, app in apps:
            self._reader.read(families, app, {"app": name} if named else {})
        yield from families.all()


class _Families:
    """The metrics of one scrape."""

    def __init__(self, prefix: str, *, named: bool) -> None:
        lead = ("app",) if named else ()
        self._families: dict[str, Metric] = {
            spec.name: _FAMILIES[spec.kind](
                f"{prefix}_{spec.name}",
                spec.text,
                labels=spec.labels if spec.name == "info" else [*lead, *spec.labels],
            )
            for spec in SPECS
        }
        # Samples are made here: add_metric() pairs names and values of labels again for each of them.
        self._series = {
            spec.name: (
                f"{prefix}_{spec.name}{'_total' if spec.kind == 'counter' else ''}",
                self._families[spec.name].samples,
            )
            for spec in SPECS
        }
        self.add("info", versions(), 1)

    def all(self) -> Iterable[Metric]:
        return self._families.values()

    def labels(self, **labels: str) -> dict[str, str]:
        return labels

    def add(self, metric: str, who: dict[str, str], value: float, **more: str) -> None:
        name, samples = self._series[metric]
        samples.append(Sample(name, {**who, **more} if more else who, value))

    def add_each(
        self, metric: str, who: dict[str, str], label: str, values: Iterable[tuple[str, float]]
    ) -> None:
        name, samples = self._series[metric]
        samples.extend([Sample(name, {**who, label: text}, value) for text, value in values])

    def add_histogram(
        self, metric: str, who: dict[str, str], bounds: Sequence[str], counts: Sequence[int], sum_s: float
    ) -> None:
        name, samples = self._series[metric]
        bucket, pairs = f"{name}_bucket", zip(bounds, counts, strict=True)
        samples.extend([Sample(bucket, {**who, "le": bound}, count) for bound, count in pairs])
        samples += Sample(f"{name}_count", who, counts[-1]), Sample(f"{name}_sum", who, sum_s)


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
