"""Delivery to Jitsu's ingestion API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.handler import Handler
from rambla_py.handlers.jitsu.connection import JitsuConnection
from rambla_py.handlers.jitsu.settings import JitsuOptions, JitsuSettings

if TYPE_CHECKING:
    from pyreqwest.client import SyncClient

    from rambla_py.delivery import Delivery
    from rambla_py.handler import Preflight, State

__all__ = ["JitsuHandler"]


class JitsuHandler(Handler):
    """Sends events to a Jitsu server, a batch in one request.

    At least once: a message is ok when the server has answered, and has not named its event as refused. An
    event that it names is fatal with its reason, or is retried if the server could not store it just now. A
    batch that is refused for its content (400, 413), or without the ids of the refused events, is sent again
    in halves. 401, and a write key of no site, take the channel ``down``; 429 and 503 wait. After a request
    without an answer an event may arrive twice, with the same ``messageId``. There is no order.

    A message is an object with the name of the event in ``event``, or JSON of one as a string. The result is
    an ``HttpResult``, common to a batch. A callable payload is given a ``pyreqwest.client.SyncClient``
    without credentials.

    >>> JitsuHandler.Options(compress_above=0).compression
    'gzip'
    """

    Connection: ClassVar[Any] = JitsuSettings
    scope_by_options = True
    Options: ClassVar[Any] = JitsuOptions
    guarantee: ClassVar[str] = (
        "at least once; a message is ok when the server has answered and has not refused its event; after "
        "a request without an answer an event may arrive twice, with the same messageId, by which Jitsu "
        "removes duplicates; no order"
    )

    def connect(self) -> JitsuConnection:
        """Resolve the host, ask for the server's health, and send an empty batch, which tests the key."""
        options = self.options if self.options is not None else JitsuOptions()
        name = f"rambla {self.service}.{self.channel}"
        connection = JitsuConnection(self.settings, options, link=self.link, name=name)
        try:
            connection.check()
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self, connection: JitsuConnection | None) -> None:
        """Close all connections; from any thread."""
        if connection is not None:
            connection.close()

    def ping(self, connection: JitsuConnection) -> None:
        """Ask for the server's health; raises if there is no answer, and for 5xx."""
        connection.ping()

    def preflight(self, connection: JitsuConnection, report: Preflight) -> None:
        """Send an empty batch, for which the server looks up the site of the write key."""
        connection.preflight(report)

    def destination(self, connection: JitsuConnection) -> SyncClient:
        """Return a client for the same server, TLS and proxy, which sends no credentials by itself."""
        return connection.destination()

    def handle_deliveries(self, deliveries: Sequence[Delivery], state: State) -> None:
        """Queue all of them; each is settled by the server's answer."""
        state.connection.submit(deliveries)
