"""An adapter of Requests that tracks its calls."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter, HTTPAdapter

from rambla_py.analytics.instrument.calls import CallTracker, OutgoingCalls

__all__ = ["AnalyticsAdapter", "requests_adapter"]


def requests_adapter(
    tracker: CallTracker, wrapped: BaseAdapter | None = None, *, service: str | None = None
) -> AnalyticsAdapter:
    """Return an adapter that tracks each request as an External API Call, those without a response too.

    The service is the host unless ``service`` names it; the endpoint is the path with variable segments
    masked, and without its query. The duration ends with the headers of the response; a status below 400
    is a success, and a call without a response has the name of its error. Each redirect is a call. Calls
    in workers are left alone. ``wrapped`` is the adapter that sends, by default an ``HTTPAdapter``.

    >>> import requests
    >>> session = requests.Session()
    >>> session.mount("https://", requests_adapter(tracker))  # doctest: +SKIP
    """
    return AnalyticsAdapter(HTTPAdapter() if wrapped is None else wrapped, OutgoingCalls(tracker, service))


class AnalyticsAdapter(BaseAdapter):
    """Sends by another adapter, and tracks each request; made by `requests_adapter`."""

    def __init__(self, wrapped: BaseAdapter, calls: OutgoingCalls) -> None:
        super().__init__()
        self._wrapped = wrapped
        self._calls = calls

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        """Send a request by the wrapped adapter."""
        started = perf_counter()
        try:
            response = self._wrapped.send(request, *args, **options)
        except BaseException as error:
            self._calls.track(request.method or "GET", request.url or "", started, error=error)
            raise
        self._calls.track(
            request.method or "GET", request.url or "", started, status_code=response.status_code
        )
        return response

    def close(self) -> None:
        """Close the wrapped adapter."""
        self._wrapped.close()

    def uninstrument(self) -> None:
        """Stop tracking; the adapter stays usable."""
        self._calls.is_on = False
