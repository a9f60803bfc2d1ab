"""Instrumentation of all apps of a process, for ``opentelemetry-instrument``."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection
from typing import Any, ClassVar

from rambla_py.telemetry.at_start import at_start
from rambla_py.telemetry.otel.instrumentation import instrument

__all__ = ["RamblaInstrumentor"]


class RamblaInstrumentor:
    """Instruments every app that starts: what the entry point ``opentelemetry_instrumentor`` names.

    ``opentelemetry-instrument python shop.py`` calls it before the program runs; the program may as well. All
    instances are the same.
    """

    _ends: ClassVar[weakref.WeakKeyDictionary[Any, Callable[[], None]]] = weakref.WeakKeyDictionary()

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether apps are instrumented when they start."""
        return at_start.instrument is not None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return what else must be installed: nothing."""
        return ()

    def instrument(self, **options: Any) -> None:
        """Instrument apps when they start, with ``tracer_provider`` and ``meter_provider``, if given."""
        known = {name: options[name] for name in ("tracer_provider", "meter_provider") if name in options}

        def one(app: Any) -> None:
            self._ends[app] = instrument(app, **known)

        at_start.instrument = one

    def uninstrument(self, **options: Any) -> None:
        """Instrument no more apps, and end those that were instrumented so."""
        at_start.instrument = None
        for end in list(self._ends.values()):
            end()
        self._ends.clear()
