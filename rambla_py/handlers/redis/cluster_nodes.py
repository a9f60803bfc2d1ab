"""The nodes of a cluster, with a back-off for each that fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from rambla_py._internal.redis_urls import Node
from rambla_py.errors import ConnectionLostError
from rambla_py.handlers.redis.connection import RedisConnection
from rambla_py.handlers.redis.settings import Address
from rambla_py.policy import Backoff, backoff_delay

__all__ = ["Nodes"]

# A node that refuses connections is tried again soon. One that does not answer delays all messages of the
# worker while it is tried, so trying it takes a quarter of the time at most.
_BACKOFF = Backoff(initial_s=0.05, multiplier=2.0, max_s=1.0)
_PAUSE_PER_WAIT = 3.0


class _Outage(NamedTuple):
    tries: int
    until: float
    error: ConnectionLostError


class Nodes:
    """What a worker knows about a cluster's nodes; it outlives its connections. For one thread."""

    def __init__(
        self,
        login: Address,
        seeds: Sequence[Node],
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._login, self._seeds, self._clock = login, list(seeds), clock
        self._connect_timeout_s, self._read_timeout_s = connect_timeout_s, read_timeout_s
        self._seen: list[Node] = []
        self._outages: dict[Node, _Outage] = {}

    def __iter__(self) -> Iterator[Node]:
        """Yield the nodes of the last slot map, then the configured ones; nodes that failed come last."""
        yield from sorted(dict.fromkeys([*self._seen, *self._seeds]), key=self._outages.__contains__)

    def seen(self, nodes: Iterable[Node]) -> None:
        """Replace the nodes of the last slot map."""
        self._seen = list(dict.fromkeys(nodes))
        known = {*self._seen, *self._seeds}
        self._outages = {node: outage for node, outage in self._outages.items() if node in known}

    def backs_off(self, node: Node) -> bool:
        """Return whether a node must not be tried yet."""
        outage = self._outages.get(node)
        return outage is not None and self._clock() < outage.until

    def open(self, node: Node) -> RedisConnection:
        """Connect to a node; raises ``ConnectionLostError``, at once during its back-off."""
        if self.backs_off(node):
            raise self._outages[node].error
        began = self._clock()
        try:
            return RedisConnection(
                self._login._replace(host=node.host, port=node.port),
                connect_timeout_s=self._connect_timeout_s,
                read_timeout_s=self._read_timeout_s,
            )
        except ConnectionLostError as error:
            self.failed(node, error, took_s=self._clock() - began)
            raise

    def failed(self, node: Node, error: ConnectionLostError, *, took_s: float = 0.0) -> None:
        """Start a back-off, longer with each failure in a row and with the time that the failure took."""
        before = self._outages.get(node)
        tries = before.tries + 1 if before else 1
        pause_s = max(backoff_delay(_BACKOFF, tries, 1.0), took_s * _PAUSE_PER_WAIT)
        self._outages[node] = _Outage(tries, self._clock() + pause_s, error)

    def answered(self, node: Node) -> None:
        """Forget the failures of a node that works again."""
        self._outages.pop(node, None)
