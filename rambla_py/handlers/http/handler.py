"""Delivery to any HTTP server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.described import Described
from rambla_py.handler import Handler, Takes
from rambla_py.handlers.http.connection import HttpConnection
from rambla_py.handlers.http.encode import EVENT_PREFIX, made_headers
from rambla_py.handlers.http.settings import HttpOptions, HttpSettings

if TYPE_CHECKING:
    from pyreqwest.client import SyncClient

    from rambla_py.delivery import Delivery
    from rambla_py.handler import Preflight, State, Takes

__all__ = ["HttpHandler"]


class HttpHandler(Handler):
    """Sends each message as a request, or many as one; up to ``max_connections`` are in flight at a time.

    At least once: a message is ok when the server has answered 2xx. After 429 and 503
    (``unavailable_statuses``) messages for the same URL wait without using up their ``retries``, for the time
    that ``Retry-After`` names, up to 300 s. After 401 and 407 (``access_statuses``) the channel is ``down``
    until the credentials are accepted, and no message is lost. 408, 425 and most 5xx are retried; other
    statuses are fatal at once. After 502, 504 and a request without an answer the outcome is unknown; the
    message is sent again with the same ``Idempotency-Key``: its id, or a digest of the ids of a batch. There
    is no order, except among messages of a key.

    A batch that is refused for its content (400, 409, 413, 422) is sent again in halves, so that a bad event
    fails alone. The result is an ``HttpResult`` with ``status``, ``headers`` and ``body``. A callable payload
    is given a ``pyreqwest.client.SyncClient`` without credentials.

    >>> HttpHandler.Options(body_format="ndjson", compression="gzip").method
    'POST'
    """

    Connection: ClassVar[Any] = HttpSettings
    scope_by_options = True
    Options: ClassVar[Any] = HttpOptions
    guarantee: ClassVar[str] = (
        "at least once; a message is ok when the server answered 2xx; after a request without an answer it "
        "may arrive twice, with the same Idempotency-Key (that of a batch is made of its ids); no order "
        "except within a key"
    )

    control_headers: ClassVar[tuple[str, ...]] = (
        *("Host", "Authorization", "Proxy-Authorization", "Cookie", "Idempotency-Key"),
    )

    @classmethod
    def control_headers_for(cls, settings: Any) -> tuple[str, ...]:
        """Return the headers that servers act on, and the ones that the connection makes."""
        return (*cls.control_headers, *made_headers(settings))

    @classmethod
    def takes_for(cls, options: Any) -> Takes:
        """Return ``"bytes"``; for events of a batch ``"json"``."""
        return "bytes" if options is None or options.body_format == "single" else "json"

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return ``ce-``, as the HTTP binding of CloudEvents has it; messages of a batch have no headers."""
        return EVENT_PREFIX if options is None or options.body_format == "single" else None

    def describe(self, options: Any) -> Described:
        """Return the server, and the method."""
        return Described.of(self, "rambla", attributes={"http.request.method": options.method})

    def connect(self) -> HttpConnection:
        """Resolve the host, and test with ``ping_method`` whether the server accepts the credentials."""
        options = self.options if self.options is not None else HttpOptions()
        name = f"rambla {self.service}.{self.channel}"
        connection = HttpConnection(self.settings, options, link=self.link, name=name)
        try:
            connection.check()
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self, connection: HttpConnection | None) -> None:
        """Close all connections; from any thread."""
        if connection is not None:
            connection.close()

    def ping(self, connection: HttpConnection) -> None:
        """Send the ping request; raises if there is no answer, for 5xx, and for refused credentials."""
        connection.ping()

    def preflight(self, connection: HttpConnection, report: Preflight) -> None:
        """Name what a server tells only of a request with a message."""
        options = self.options if self.options is not None else HttpOptions()
        report.not_checked(f"whether the server accepts {options.method} requests with messages")

    def destination(self, connection: HttpConnection) -> SyncClient:
        """Return a client for the same server, TLS and proxy, which sends no credentials by itself."""
        return connection.destination()

    def handle_deliveries(self, deliveries: Sequence[Delivery], state: State) -> None:
        """Queue all of them; each is settled when the server answers."""
        state.connection.submit(deliveries)
