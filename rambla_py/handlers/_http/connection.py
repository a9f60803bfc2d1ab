"""The connection of one worker over HTTP: a client, and the threads that make requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyreqwest.client import SyncClient

from rambla_py.handlers._http.client import HttpClient, client_for
from rambla_py.handlers._http.exchange import Answer, Request
from rambla_py.handlers._http.request_pool import Group, RequestPool
from rambla_py.handlers._http.settings import WebSettings
from rambla_py.handlers._losses import Loss

if TYPE_CHECKING:
    from rambla_py.handler import Link

__all__ = ["APART", "WebConnection"]

APART = 32
"""How many messages that are sent alone may be in flight where ``max_connections`` is few."""


class WebConnection:
    """Subclass it with ``_deliver``, which makes requests of a group, on one of several threads.

    ``_answers`` asks the server whether it answers at all. ``apart`` is how many messages that are sent alone
    may be in flight beside ``max_connections`` requests; with 0 they are among these.
    """

    settings: WebSettings

    def __init__(
        self, settings: WebSettings, *, max_response_bytes: int, link: Link, name: str, apart: int = 0
    ) -> None:
        self.settings, self.link = settings, link
        self.client = HttpClient(settings, max_response_bytes=max_response_bytes)
        self._pool = RequestPool(
            self._deliver,
            limit=settings.max_connections,
            link=link,
            name=name,
            apart=apart,
            answers=self._answers,
        )
        self._destination: SyncClient | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.client!r}, {self._pool!r}>"

    def destination(self) -> SyncClient:
        """Return a client of pyreqwest's own, kept until ``close``."""
        if self._destination is None:
            self._destination = client_for(self.settings)
        return self._destination

    def close(self) -> None:
        """Close all connections; requests that wait for an answer are abandoned."""
        self._pool.close()
        self.client.close()
        if self._destination is not None:
            self._destination.close()

    def _send(self, request: Request) -> Answer:
        """Send a request on one of the pool's threads; raises what ``HttpClient.send`` raises."""
        began = self._pool.begins()
        answer = self.client.send(request)
        self._pool.answered(began)
        return answer

    def _answers(self) -> bool:
        """Return whether the server answers a request without messages; may raise a ``DeliveryError``."""
        raise NotImplementedError

    def _deliver(self, group: Group) -> Sequence[Loss]:
        """Settle the deliveries of a group, and return those without an answer.

        With the loss of a request come those of the deliveries that were to follow it, as ``unsent``.
        """
        raise NotImplementedError
