"""Middleware for ASGI applications: Starlette, FastAPI, and those without a router."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from rambla_py.analytics.middleware.recorder import (
    CLIENT_CLOSED,
    SERVER_ERROR,
    Described,
    Exchange,
    Identify,
    RequestRecorder,
)
from rambla_py.analytics.middleware.routes import RouteTemplates

if TYPE_CHECKING:
    from rambla_py.analytics.tracker import Tracker

__all__ = ["AsgiMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_BODIES: Final = frozenset({"http.response.body", "http.response.pathsend", "http.response.zerocopysend"})

_SHUTDOWNS: Final = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


class AsgiMiddleware:
    """Tracks each HTTP request of an ASGI application as an API Call, and what it raises as an API Error.

    The path is the template of the route with those of its mounts; without a router it is the path with
    variable segments masked. The duration, in milliseconds, ends with the last message of the body:
    streams are measured to their end, background tasks are not. An exception is a 500 and passes on
    untouched; a client that has left, or a cancelled request, is a 499. WebSockets and lifespan events
    pass through. No request waits; the end of the lifespan waits for the last events, within
    ``exit_timeout_s``, because uvicorn ends by its signal, without the hooks of an exit.

    :param tracker: the tracker, which stays the application's to close
    :param exclude: paths that are not tracked; they may hold ``*`` and ``?``
    :param sample: share of requests that is tracked, 0 to 1; server errors always are. None: the tracker's
    :param trusted_proxies: networks whose ``X-Forwarded-For`` or ``Forwarded`` is believed
    :param identify: called with the scope when the request ends; returns the user's id, or None

    Raises `AnalyticsError` for a share, or a network, that is none.

    >>> from rambla_py.analytics import AsgiMiddleware
    >>> async def application(scope, receive, send):
    ...     await send({"type": "http.response.start", "status": 204, "headers": []})
    ...     await send({"type": "http.response.body", "body": b""})
    >>> application = AsgiMiddleware(application, tracker, exclude=["/health*"])  # doctest: +SKIP
    """

    def __init__(
        self,
        app: AsgiApp,
        tracker: Tracker,
        *,
        exclude: Iterable[str] = (),
        sample: float | None = None,
        trusted_proxies: Iterable[str] = (),
        identify: Identify[Scope] | None = None,
    ) -> None:
        self.app = app
        self._recorder: RequestRecorder[Scope] = RequestRecorder(
            tracker, exclude=exclude, sample=sample, trusted_proxies=trusted_proxies, identify=identify
        )
        self._templates = RouteTemplates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, and track the request."""
        excluded = self._recorder.exclusions
        if scope["type"] != "http" or (excluded is not None and excluded.match(scope["path"])):
            if scope["type"] == "lifespan":
                send = self._flushing(send)
            await self.app(scope, receive, send)
            return
        exchange = _AsgiExchange(self._recorder, self._templates, scope, receive, send)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except Exception as error:
            exchange.fail(error)
            raise
        except BaseException:
            exchange.end(CLIENT_CLOSED)
            raise
        if not exchange.has_ended or exchange.error is not None:
            exchange.finish()

    def _flushing(self, send: Send) -> Send:
        async def flush_at_shutdown(message: Message) -> None:
            if message["type"] in _SHUTDOWNS:
                await self._recorder.flush()
            await send(message)

        return flush_at_shutdown


class _AsgiExchange(Exchange[Scope]):
    """One request, whose messages are watched."""

    __slots__ = ("_is_disconnected", "_receive", "_send", "_status", "_templates")

    def __init__(  # all fields at once: this is done for each request
        self,
        recorder: RequestRecorder[Scope],
        templates: RouteTemplates,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self.started = perf_counter()
        self.recorder = recorder
        self.request = scope
        self.error = None
        self.has_ended = False
        self._templates = templates
        self._receive = receive
        self._send = send
        self._status = SERVER_ERROR
        self._is_disconnected = False

    async def receive(self) -> Message:
        """Receive a message for the application."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._is_disconnected = True
        return message

    async def send(self, message: Message) -> None:
        """Send a message of the application; the last one of the body ends the request."""
        try:
            await self._send(message)
        except OSError:  # how servers refuse what can no longer be sent
            self._is_disconnected = True
            raise
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message["status"]
        elif kind in _BODIES and not message.get("more_body", False):
            status = CLIENT_CLOSED if self._is_disconnected else self._status
            if self.has_ended or self.error is not None:
                self.end(status)
            else:  # what ``end`` does, inlined: this is each request
                self.has_ended = True
                self.recorder.record(self, status)

    def finish(self) -> None:
        """End a request whose application has returned: without a whole response, servers report an error."""
        self.end(CLIENT_CLOSED if self._is_disconnected else SERVER_ERROR)

    def fail(self, error: BaseException) -> None:
        """End a request by an exception; that of a client which has left is no error."""
        if self._is_disconnected and not self.has_ended:
            self.end(CLIENT_CLOSED)
        else:
            super().fail(error)

    def describe(self) -> Described:
        """Return what is known of the request by now: on the hot path, so that it calls little."""
        scope, recorder = self.request, self.recorder
        known = self._templates.known.get((id(scope.get("route")), id(scope.get("endpoint"))))
        path = known[2] if known is not None else self._templates.template(scope)
        if path is None:
            path = recorder.masks.mask(scope["path"])
        peer = scope.get("client")
        address = peer[0] if peer else None
        user_agent = None
        if recorder.clients.are_any_trusted:
            user_agent, address = recorder.clients.of_headers(address, scope["headers"])
        else:
            for name, value in scope["headers"]:
                if name == b"user-agent":
                    user_agent = value.decode("latin-1")
                    break
        return scope["method"], path, user_agent, address
