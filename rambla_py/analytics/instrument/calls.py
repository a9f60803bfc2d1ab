"""What instrumented libraries need of a tracker, and how a call of theirs is tracked."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Protocol
from urllib.parse import urlsplit

from rambla_py.analytics.middleware.paths import PathMasks
from rambla_py.runtime.worker_threads import is_inside_worker

__all__ = ["CallTracker", "OutgoingCalls", "Queries", "QueryTracker"]

_log = logging.getLogger("rambla_py.analytics")
_CLIENT_ERROR = 400


class QueryTracker(Protocol):
    """What instrumented databases need of a tracker."""

    def track_db_query(self, query: str, duration_ms: float, success: bool, **fields: Any) -> Any:
        """Track a statement."""


class CallTracker(Protocol):
    """What instrumented HTTP clients need of a tracker."""

    def track_external_api_call(
        self, service: str, endpoint: str, duration_ms: float, success: bool, **fields: Any
    ) -> Any:
        """Track a call of another service."""


class _Guard:
    """Logs the first failure to track, so that none reaches the application."""

    __slots__ = ("_has_warned",)

    def __init__(self) -> None:
        self._has_warned = False

    def warn(self, what: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            kind = getattr(sys.exc_info()[0], "__name__", "an error")
            # Neither text nor traceback: they may quote a URL, or what the application was given.
            _log.warning("could not %s: %s; further such failures are not logged", what, kind)


class Queries:
    """Tracks the statements of one instrumented object, with their dialect; never the parameters.

    What runs in a worker is left alone: it is the delivery of events, among other things.
    """

    __slots__ = ("_dialect", "_guard", "_tracker", "is_on")

    def __init__(self, tracker: QueryTracker, dialect: str) -> None:
        self._tracker = tracker
        self._dialect = dialect
        self._guard = _Guard()
        self.is_on = True

    @contextmanager
    def measured(self, query: str) -> Iterator[None]:
        """Track a statement that the body runs; what it raises passes on."""
        started = perf_counter()
        try:
            yield
        except BaseException as error:
            self.track(query, started, error)
            raise
        self.track(query, started)

    def track(self, query: str, started: float, error: BaseException | None = None) -> None:
        """Track a statement that ends now; ``started`` is its `time.perf_counter`."""
        duration_ms = (perf_counter() - started) * 1_000
        if not self.is_on or is_inside_worker():
            return
        try:
            failed = {} if error is None else {"error_type": type(error).__name__}
            self._tracker.track_db_query(query, duration_ms, error is None, dialect=self._dialect, **failed)
        except Exception:
            self._guard.warn("track a query")


class OutgoingCalls:
    """Tracks the calls of one HTTP client: the service is the host, the endpoint a masked path.

    What runs in a worker is left alone.
    """

    __slots__ = ("_guard", "_masks", "_service", "_tracker", "is_on")

    def __init__(self, tracker: CallTracker, service: str | None) -> None:
        self._tracker = tracker
        self._service = service
        self._masks = PathMasks()
        self._guard = _Guard()
        self.is_on = True

    def track(
        self,
        method: str,
        url: str,
        started: float,
        *,
        status_code: int | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Track a call that ends now, by a status or by an error; ``started`` is its `time.perf_counter`."""
        duration_ms = (perf_counter() - started) * 1_000
        if not self.is_on or is_inside_worker():
            return
        try:
            fields: dict[str, Any] = {"method": method}
            if status_code is not None:
                fields["api_status_code"] = status_code
            if error is not None:
                fields["error_type"] = type(error).__name__
            success = status_code is not None and status_code < _CLIENT_ERROR
            target = urlsplit(url)
            endpoint = self._masks.mask(target.path or "/")
            self._tracker.track_external_api_call(
                self._service or target.hostname or "", endpoint, duration_ms, success, **fields
            )
        except Exception:
            self._guard.warn("track a call")
