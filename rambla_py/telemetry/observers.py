"""Registered observers of one app."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rambla_py.telemetry.observer import Observer

if TYPE_CHECKING:
    from rambla_py.telemetry.tracing import Tracing

__all__ = ["Observers"]

log = logging.getLogger("rambla_py.telemetry")

_KINDS = ("published", "attempted", "ended", "connection", "refused", "outbox")

Call = Callable[..., None]


class Observers:
    """The functions to call, by kind; without observers, a call site costs one look at an empty tuple.

    Each attribute is a tuple of functions in the order of registration. ``published`` is for listeners only:
    it is called once a message, and all messages take the slow path while it is used. ``tracing`` is None
    unless the app is traced.
    """

    def __init__(self) -> None:
        self.published: tuple[Call, ...] = ()
        self.attempted: tuple[Call, ...] = ()
        self.ended: tuple[Call, ...] = ()
        self.connection: tuple[Call, ...] = ()
        self.refused: tuple[Call, ...] = ()
        self.outbox: tuple[Call, ...] = ()
        self.tracing: Tracing | None = None
        self._lock = threading.Lock()
        self._entries: list[dict[str, Call]] = []

    def observe(self, observer: object) -> Callable[[], None]:
        """Register an observer; return a function that removes it."""
        entry = {kind: _guarded(kind, call) for kind in _KINDS if (call := _method(observer, kind))}
        with self._lock:
            self._entries.append(entry)
            self._publish()

        def end() -> None:
            with self._lock:
                self._entries = [other for other in self._entries if other is not entry]
                self._publish()

        return end

    def _publish(self) -> None:
        for kind in _KINDS:
            setattr(self, kind, tuple(entry[kind] for entry in self._entries if kind in entry))


def _method(observer: object, kind: str) -> Call | None:
    """Return the method of an observer, or None if it has none or only inherits the empty one."""
    method: Call | None = getattr(observer, kind, None)
    inherited = getattr(Observer, kind, None)
    return None if inherited is not None and getattr(type(observer), kind, None) is inherited else method


def _guarded(kind: str, call: Call) -> Call:
    logged: set[type] = set()

    def guarded(*args: Any) -> None:
        try:
            call(*args)
        except (Exception, SystemExit) as error:  # user code: it must not disturb deliveries
            if type(error) not in logged:
                logged.add(type(error))
                log.exception("an observer raised in %s; further errors of this type are not logged", kind)

    return guarded
