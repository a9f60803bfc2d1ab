"""Transports of HTTPX that track their calls."""

from __future__ import annotations

from time import perf_counter

import httpx

from rambla_py.analytics.instrument.calls import CallTracker, OutgoingCalls

__all__ = ["AsyncHttpxTransport", "HttpxTransport"]


class HttpxTransport(httpx.BaseTransport):
    """Tracks each request of an HTTPX client as an External API Call, those that get no response too.

    The service is the host unless ``service`` names it; the endpoint is the path with variable segments
    masked, and without its query. The duration ends with the headers of the response; a status below 400
    is a success, and a call without a response has the name of its error. Each redirect is a call. Calls
    in workers are left alone. ``wrapped`` is the transport that sends, by default HTTPX's own.

    >>> import httpx
    >>> client = httpx.Client(transport=HttpxTransport(tracker))  # doctest: +SKIP
    """

    def __init__(
        self,
        tracker: CallTracker,
        wrapped: httpx.BaseTransport | None = None,
        *,
        service: str | None = None,
    ) -> None:
        self._wrapped = httpx.HTTPTransport() if wrapped is None else wrapped
        self._calls = OutgoingCalls(tracker, service)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request by the wrapped transport."""
        started = perf_counter()
        try:
            response = self._wrapped.handle_request(request)
        except BaseException as error:
            self._calls.track(request.method, str(request.url), started, error=error)
            raise
        self._calls.track(request.method, str(request.url), started, status_code=response.status_code)
        return response

    def close(self) -> None:
        """Close the wrapped transport."""
        self._wrapped.close()

    def uninstrument(self) -> None:
        """Stop tracking; the transport stays usable."""
        self._calls.is_on = False


class AsyncHttpxTransport(httpx.AsyncBaseTransport):
    """Tracks the requests of an ``httpx.AsyncClient``; else as `HttpxTransport`.

    >>> import httpx
    >>> client = httpx.AsyncClient(transport=AsyncHttpxTransport(tracker))  # doctest: +SKIP
    """

    def __init__(
        self,
        tracker: CallTracker,
        wrapped: httpx.AsyncBaseTransport | None = None,
        *,
        service: str | None = None,
    ) -> None:
        self._wrapped = httpx.AsyncHTTPTransport() if wrapped is None else wrapped
        self._calls = OutgoingCalls(tracker, service)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request by the wrapped transport."""
        started = perf_counter()
        try:
            response = await self._wrapped.handle_async_request(request)
        except BaseException as error:
            self._calls.track(request.method, str(request.url), started, error=error)
            raise
        self._calls.track(request.method, str(request.url), started, status_code=response.status_code)
        return response

    async def aclose(self) -> None:
        """Close the wrapped transport."""
        await self._wrapped.aclose()

    def uninstrument(self) -> None:
        """Stop tracking; the transport stays usable."""
        self._calls.is_on = False
