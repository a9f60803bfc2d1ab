"""This module delivers to any server that speaks HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.handler import Handler
from rambla_py.handlers.http.exchange import Exchange
from rambla_py.handlers.http.requests import EVENT_PREFIX
from rambla_py.handlers.http.settings import HttpConnection, HttpOptions

if TYPE_CHECKING:
    from pyreqwest.client import SyncClient

    from rambla_py.delivery import Delivery
    from rambla_py.handler import State

__all__ = ["HttpHandler"]


class HttpHandler(Handler):
    """Sends each message as a request, or many as one; up to ``max_connections`` are in flight at a time.

    At least once: a message is ok when the server has answered 2xx. 408, 425, 429 and 5xx are retried, after
    the time that ``Retry-After`` names; other statuses are fatal at once. 401 and 407 count as lost access:
    the channel is down until the credentials work. When a request went out and no answer came, it may come
    twice, with the same ``Idempotency-Key``: the message's id, or a digest of the ids of a batch. There is no
    order, but among messages of a key.

    A batch that is refused for its content (400, 409, 413, 422) is sent again in halves, so that a bad event
    fails alone. The result is an ``HttpResult`` with ``status``, ``headers`` and ``body``. A callable payload
    is given a ``pyreqwest.client.SyncClient`` without credentials.

    >>> HttpHandler.Options(body_format="ndjson", compression="gzip").method
    'POST'
    """

    Connection: ClassVar[Any] = HttpConnection
    Options: ClassVar[Any] = HttpOptions
    guarantee: ClassVar[str] = (
        "at least once; a message is ok when the server answered 2xx; after a request without an answer it "
        "may come twice, with the same Idempotency-Key (that of a batch is made of its ids); no order, but "
        "within a key"
    )

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return ``ce-``, as the binding of CloudEvents for HTTP has it; many in one body have no headers."""
        return EVENT_PREFIX if options is None or options.body_format == "single" else None

    def connect(self) -> Exchange:
        """Resolve the host, and ask the server with ``ping_method`` whether it answers and knows us."""
        exchange = Exchange(self.settings, link=self.link, name=f"rambla {self.service}.{self.channel}")
        try:
            exchange.check()
        except BaseException:
            exchange.close()
            raise
        return exchange

    def close(self, connection: Exchange | None) -> None:
        """Close all connections; from any thread."""
        if connection is not None:
            connection.close()

    def ping(self, connection: Exchange) -> None:
        """Send the ping request; raises when there is no answer, for 5xx, and for refused credentials."""
        connection.ping()

    def destination(self, connection: Exchange) -> SyncClient:
        """Return a client for the same server, TLS and proxy, which sends no credentials by itself."""
        return connection.destination()

    def handle_deliveries(self, deliveries: Sequence[Delivery], state: State) -> None:
        """Hand all over; each is settled when the server answers."""
        state.connection.submit(deliveries)
