"""Middleware for Django, under WSGI and ASGI."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django import conf
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import got_request_exception
from django.http import FileResponse
from django.utils.module_loading import import_string

from rambla_py.analytics.middleware.paths import NO_ROUTE
from rambla_py.analytics.middleware.recorder import CLIENT_CLOSED, Described, Exchange, RequestRecorder
from rambla_py.analytics.tracker import Tracker

__all__ = ["AnalyticsMiddleware"]

_KEYS: Final = ("tracker", "exclude", "sample", "trusted_proxies", "identify")
_EXCHANGE: Final = "_rambla_exchange"


class AnalyticsMiddleware:
    """Tracks each request of a Django project, and each exception that its views do not handle.

    It belongs first in ``MIDDLEWARE``, and is sync and async capable. The path is the route of the URL
    configuration with those of its includes (``/items/<int:id>/``), or ``(no route)``. Streams are measured
    to their end. ``settings.RAMBLA_ANALYTICS`` may be left out; it is a tracker, or a dictionary of:

    - ``tracker``: a tracker, or where to import one from (``"shop.analytics.tracker"``); without it, one is
      made from the environment and the configuration file, as ``Tracker()`` does
    - ``exclude``, ``sample``, ``trusted_proxies``, ``identify``: as of `AsgiMiddleware`; ``identify`` may be
      given by its path, and is called with the request

    >>> MIDDLEWARE = ["rambla_py.analytics.django.AnalyticsMiddleware", "shop.middleware.Others"]
    >>> RAMBLA_ANALYTICS = {"exclude": ["/health*"], "identify": "shop.users.id_of"}

    Raises ``ImproperlyConfigured`` for an unknown key, and `AnalyticsError` for a value that is wrong.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        self._recorder = _recorder(getattr(conf.settings, "RAMBLA_ANALYTICS", {}))

    def __call__(self, request: Any) -> Any:
        """Answer a request by what comes after this middleware."""
        excluded = self._recorder.exclusions
        is_excluded = excluded is not None and excluded.match(request.path)
        if self._is_async:
            return self._get_response(request) if is_excluded else self._answer_async(request)
        return self._get_response(request) if is_excluded else self._answer(request)

    def _answer(self, request: Any) -> Any:
        exchange = _DjangoExchange(self._recorder, request)
        try:
            response = self._get_response(request)
        except Exception as error:
            exchange.fail(error)
            raise
        except BaseException:
            exchange.end(CLIENT_CLOSED)
            raise
        exchange.answer(response)
        return response

    async def _answer_async(self, request: Any) -> Any:
        exchange = _DjangoExchange(self._recorder, request)
        try:
            response = await self._get_response(request)
        except Exception as error:
            exchange.fail(error)
            raise
        except BaseException:
            exchange.end(CLIENT_CLOSED)
            raise
        exchange.answer(response)
        return response


class _DjangoExchange(Exchange[Any]):
    """One request, which finds itself again as an attribute of the request."""

    __slots__ = ("_is_cut",)

    def __init__(self, recorder: RequestRecorder[Any], request: Any) -> None:
        super().__init__(recorder, request)
        self._is_cut = False
        setattr(request, _EXCHANGE, self)

    def answer(self, response: Any) -> None:
        """End the request with its response, or where its stream is closed."""
        if not response.streaming:
            self.end(response.status_code)
            return
        self._end_at_close(response)
        # A file may be sent by the server itself, which must see it as it is.
        if response.is_async:
            response.streaming_content = self._watched_async(response.streaming_content)
        elif not isinstance(response, FileResponse):
            response.streaming_content = self._watched(response.streaming_content)

    def describe(self) -> Described:
        """Return what is known of the request by now."""
        request, match = self.request, self.request.resolver_match
        path = NO_ROUTE if match is None else f"/{match.route}"
        return request.method, path, *self.recorder.clients.of_environ(request.META)

    def _end_at_close(self, response: Any) -> None:
        close = response.close

        def close_both() -> None:
            try:
                close()
            finally:
                self.end(CLIENT_CLOSED if self._is_cut else response.status_code)

        response.close = close_both

    def _watched(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        self._is_cut = True
        try:
            yield from parts
        except Exception as error:
            self.fail(error)
            raise
        self._is_cut = False

    async def _watched_async(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._is_cut = True
        try:
            async for part in parts:
                yield part
        except Exception as error:
            self.fail(error)
            raise
        self._is_cut = False


def _note_error(sender: object, request: Any = None, **_: object) -> None:
    exchange = getattr(request, _EXCHANGE, None)
    if isinstance(exchange, _DjangoExchange):
        exchange.error = sys.exc_info()[1]


# Sent for each exception that becomes a 500, those of other middleware too, which no process_exception sees.
got_request_exception.connect(_note_error, dispatch_uid=__name__)


def _recorder(given: Any) -> RequestRecorder[Any]:
    options = dict(given) if isinstance(given, Mapping) else {"tracker": given}
    for key in options:
        if key not in _KEYS:
            near = get_close_matches(key, _KEYS, 1)
            raise ImproperlyConfigured(
                f"RAMBLA_ANALYTICS: expected the keys {', '.join(_KEYS)}; got {key!r}"
                + (f"; did you mean {near[0]!r}?" if near else "")
            )
    tracker, identify = (
        import_string(value) if isinstance(value, str) else value
        for value in (options.get("tracker"), options.get("identify"))
    )
    return RequestRecorder(
        Tracker() if tracker is None else tracker,
        exclude=options.get("exclude", ()),
        sample=options.get("sample"),
        trusted_proxies=options.get("trusted_proxies", ()),
        identify=identify,
    )
