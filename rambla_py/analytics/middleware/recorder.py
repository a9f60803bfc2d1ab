"""A request that middleware tracks when it ends, and the options that all middleware shares."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from rambla_py.analytics.errors import AnalyticsError
from rambla_py.analytics.events import ApiRequest
from rambla_py.analytics.middleware.clients import ClientAddresses
from rambla_py.analytics.middleware.paths import OTHER, Exclusions, PathMasks
from rambla_py.analytics.recording import Kind

if TYPE_CHECKING:
    from rambla_py.analytics.tracker import Tracker

__all__ = [
    "CLIENT_CLOSED",
    "SERVER_ERROR",
    "Described",
    "Exchange",
    "Identify",
    "RequestRecorder",
]

CLIENT_CLOSED: Final = 499
"""Status of a request whose client left, or whose task was cancelled, before the response was complete."""

SERVER_ERROR: Final = 500
"""Status of a request that an exception ended, whatever its headers had said."""

_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"}
)

_log = logging.getLogger("rambla_py.analytics")

R = TypeVar("R")
Identify = Callable[[R], "str | None"]
Described = tuple[str, str, str | None, str | None]
"""Method, path, user agent and address of the client."""


class RequestRecorder(Generic[R]):
    """Tracks requests for one middleware; ``R`` is what ``identify`` is called with.

    Nothing that goes wrong here reaches the application: it is logged once as a warning.
    """

    __slots__ = ("_has_warned", "_identify", "_kind", "_tracker", "clients", "exclusions", "masks")

    def __init__(
        self,
        tracker: Tracker,
        *,
        exclude: Iterable[str],
        sample: float | None,
        trusted_proxies: Iterable[str],
        identify: Identify[R] | None,
    ) -> None:
        if not hasattr(tracker, "track_api_request"):
            raise AnalyticsError(f"expected a Tracker; got {type(tracker).__name__}", field="tracker")
        if sample is not None and not 0 <= sample <= 1:
            raise AnalyticsError(f"expected a share from 0 to 1; got {sample!r}", field="sample")
        self._tracker = tracker
        self._identify = identify
        self._kind = tracker._request if sample is None else Kind(ApiRequest, sample)
        self._has_warned = False
        settings = tracker.settings
        names = [exclude] if isinstance(exclude, str) else exclude
        excluded = [*settings.exclude_paths, *names] if tracker.enabled else ["*"]
        self.exclusions = Exclusions(excluded) if excluded else None
        proxies = [trusted_proxies] if isinstance(trusted_proxies, str) else trusted_proxies
        self.clients = ClientAddresses([*settings.trusted_proxies, *proxies])
        self.masks = PathMasks()

    def record(self, exchange: Exchange[R], status_code: int) -> None:
        """Track a request that ends now."""
        duration_ms = (perf_counter() - exchange.started) * 1_000
        try:
            method, path, user_agent, address = exchange.describe()
            if method not in _METHODS:
                method = OTHER
            fields = {} if self._identify is None else self._user(exchange.request)
            self._tracker._track_request(
                self._kind, method, path, status_code, duration_ms, user_agent, address, fields
            )
        except Exception:
            self._warn("track a request")

    def record_error(self, exchange: Exchange[R], error: BaseException) -> None:
        """Track an exception that the application did not handle."""
        try:
            method, path, _, _ = exchange.describe()
            self._tracker.track_api_error(
                error,
                method=method if method in _METHODS else OTHER,
                path=path,
                **self._user(exchange.request),
            )
        except Exception:
            self._warn("track an error")

    async def flush(self) -> None:
        """Deliver the events that wait, within the time that an exit has for it; log how many are left."""
        try:
            if not await self._tracker.aflush(self._tracker._exit_timeout_s):
                pending = self._tracker.audit().pending
                _log.warning("the application ends; not delivered of its events: %d", pending)
        except Exception:
            self._warn("deliver the last events")

    def exclude_all(self) -> None:
        """Track nothing from now on."""
        self.exclusions = Exclusions(["*"])

    def _user(self, request: R) -> dict[str, Any]:
        if self._identify is None:
            return {}
        try:
            user_id = self._identify(request)
            return {} if user_id is None else {"user_id": str(user_id)}
        except Exception:
            self._warn("identify the user of a request")
            return {}

    def _warn(self, what: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            kind = getattr(sys.exc_info()[0], "__name__", "an error")
            # Neither text nor traceback: they may quote a URL, or what the application was given.
            _log.warning("could not %s: %s; further such failures are not logged", what, kind)


class Exchange(Generic[R]):
    """One request, which is tracked once when it ends; each kind of middleware has its own."""

    __slots__ = ("error", "has_ended", "recorder", "request", "started")

    def __init__(self, recorder: RequestRecorder[R], request: R) -> None:
        self.started = perf_counter()
        self.recorder = recorder
        self.request = request
        self.error: BaseException | None = None
        self.has_ended = False

    def describe(self) -> Described:
        """Return what is tracked of the request, as it is known at its end."""
        raise NotImplementedError

    def end(self, status_code: int) -> None:
        """Track the request unless it has been, and the error that a framework noted since."""
        if not self.has_ended:
            self.has_ended = True
            self.recorder.record(self, status_code)
        if self.error is not None:
            error, self.error = self.error, None
            self.recorder.record_error(self, error)

    def fail(self, error: BaseException) -> None:
        """End the request by an exception, which is tracked once."""
        self.error = error
        self.end(SERVER_ERROR)
