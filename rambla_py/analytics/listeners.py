"""Listeners of a tracker, called at most once a second for each reason."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

from rambla_py.analytics.errors import AnalyticsError
from rambla_py.errors import nearest

__all__ = ["Listeners", "Topic"]

log = logging.getLogger("rambla_py.analytics")

Topic = Literal["error", "drop"]

_INTERVAL_S = 1.0


class Listeners:
    """The functions to call with errors, and with the number of events lost for one reason.

    ``wake`` is called with the time, on the monotonic clock, at which ``call_due`` should run.
    """

    def __init__(self, wake: Callable[[float], object]) -> None:
        self._wake = wake
        self._by_topic: dict[Topic, tuple[Callable[..., Any], ...]] = {"error": (), "drop": ()}
        self._logged: set[Any] = set()
        self.reset()

    def reset(self) -> None:
        """Forget what waits: in a forked child it belongs to the parent."""
        self._lock = threading.RLock()
        self._dropped: Counter[str] = Counter()
        self._errors: dict[str, BaseException] = {}
        self._due: float | None = None
        self._next_at = 0.0

    def add(self, topic: Topic, listener: Callable[..., Any]) -> Callable[[], None]:
        """Call a listener from now on; return a function that ends it. Raises ``AnalyticsError``."""
        if topic not in self._by_topic:
            close = nearest(str(topic), self._by_topic)
            hint = f"; did you mean {close!r}?" if close else ""
            raise AnalyticsError(f"no listeners for {topic!r}; there are 'error' and 'drop'{hint}")
        with self._lock:
            self._by_topic[topic] = (*self._by_topic[topic], listener)

        def end() -> None:
            with self._lock:
                kept = (one for one in self._by_topic[topic] if one is not listener)
                self._by_topic[topic] = tuple(kept)

        return end

    def report(self, reason: str, number: int, error: BaseException | None) -> None:
        """Call the listeners soon: the first time at once, then once a second."""
        wants_drop, wants_error = self._by_topic["drop"], error is not None and self._by_topic["error"]
        if not wants_drop and not wants_error:
            return
        with self._lock:
            if wants_drop and number:
                self._dropped[reason] += number
            if wants_error and error is not None:
                self._errors.setdefault(reason, error)
            if self._due is not None:
                return
            due = self._due = max(time.monotonic(), self._next_at)
        self._wake(due)

    def call_due(self, now: float) -> float | None:
        """Call the listeners if it is time; return when to run again."""
        with self._lock:
            due = self._due
            if due is None or now < due:
                return due
            self._next_at = now + _INTERVAL_S
        self.call_all()
        with self._lock:
            return self._due

    def call_all(self) -> None:
        """Call the listeners with everything that waits."""
        with self._lock:
            self._due = None
            dropped, self._dropped = self._dropped, Counter()
            errors, self._errors = self._errors, {}
        for error in errors.values():
            self._call("error", error)
        for reason, number in dropped.items():
            self._call("drop", reason, number)

    def _call(self, topic: Topic, *args: Any) -> None:
        for listener in self._by_topic[topic]:
            try:
                listener(*args)
            except Exception as raised:  # the application's: it must not keep the others from being called
                key = (topic, type(raised))
                if key not in self._logged:
                    self._logged.add(key)
                    log.exception(
                        "a listener for %r raised; further errors of this type are not logged", topic
                    )
