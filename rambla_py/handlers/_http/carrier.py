"""This module is the connection of one worker over HTTP: its client, and the lanes that make requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyreqwest.client import SyncClient

from rambla_py.handlers._http.client import HttpClient, client_for
from rambla_py.handlers._http.lanes import Group, Lanes, Loss
from rambla_py.handlers._http.settings import WebConnection

if TYPE_CHECKING:
    from rambla_py.handler import Link

__all__ = ["Carrier"]


class Carrier:
    """Subclass it with ``_carry``, which makes a request of a group, on one of several lanes."""

    settings: WebConnection

    def __init__(self, settings: WebConnection, *, max_response_bytes: int, link: Link, name: str) -> None:
        self.settings = settings
        self.client = HttpClient(settings, max_response_bytes=max_response_bytes)
        self._lanes = Lanes(self._carry, limit=settings.max_connections, link=link, name=name)
        self._destination: SyncClient | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.client!r}, {self._lanes!r}>"

    def destination(self) -> SyncClient:
        """Return a client of pyreqwest's own, kept until ``close``."""
        if self._destination is None:
            self._destination = client_for(self.settings)
        return self._destination

    def close(self) -> None:
        """Close all connections; what waits for its answer is given up."""
        self._lanes.close()
        self.client.close()
        if self._destination is not None:
            self._destination.close()

    def _carry(self, group: Group) -> Sequence[Loss]:
        """Settle the deliveries of a group, and return those that were lost."""
        raise NotImplementedError
