"""This module opens connections to the nodes of a cluster, and lets those rest that do not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from rambla_py.errors import ConnectionLostError
from rambla_py.handlers.redis.settings import Address
from rambla_py.handlers.redis.urls import Node
from rambla_py.handlers.redis.wire import RedisWire
from rambla_py.policy import Backoff, backoff_delay

__all__ = ["Nodes"]

# A node that refuses is asked again soon, for it may be back. One that lets us wait holds up all messages of
# the worker while it is asked, so it is asked for a quarter of the time at most.
_REST = Backoff(initial_s=0.05, multiplier=2.0, max_s=1.0)
_REST_PER_WAIT = 3.0


class _Outage(NamedTuple):
    tries: int
    until: float
    error: ConnectionLostError


class Nodes:
    """What a worker knows of a cluster's nodes; it outlives its connections. For one thread."""

    def __init__(
        self,
        who: Address,
        seeds: Sequence[Node],
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._who, self._seeds, self._clock = who, list(seeds), clock
        self._connect_timeout_s, self._read_timeout_s = connect_timeout_s, read_timeout_s
        self._seen: list[Node] = []
        self._outages: dict[Node, _Outage] = {}

    def __iter__(self) -> Iterator[Node]:
        """Yield those that were seen last, then those of the configuration; those that failed come last."""
        yield from sorted(dict.fromkeys([*self._seen, *self._seeds]), key=self._outages.__contains__)

    def seen(self, nodes: Iterable[Node]) -> None:
        """Remember the nodes that the cluster told of, in place of those it told of before."""
        self._seen = list(dict.fromkeys(nodes))
        known = {*self._seen, *self._seeds}
        self._outages = {node: outage for node, outage in self._outages.items() if node in known}

    def rests(self, node: Node) -> bool:
        """Say whether a node is not to be asked yet."""
        outage = self._outages.get(node)
        return outage is not None and self._clock() < outage.until

    def open(self, node: Node) -> RedisWire:
        """Connect to a node; raises ``ConnectionLostError``, at once while the node rests after a failure."""
        if self.rests(node):
            raise self._outages[node].error
        began = self._clock()
        try:
            return RedisWire(
                self._who._replace(host=node.host, port=node.port),
                connect_timeout_s=self._connect_timeout_s,
                read_timeout_s=self._read_timeout_s,
            )
        except ConnectionLostError as error:
            self.failed(node, error, took_s=self._clock() - began)
            raise

    def failed(self, node: Node, error: ConnectionLostError, *, took_s: float = 0.0) -> None:
        """Let a node rest, for longer each time, and for longer when it took its time to fail."""
        before = self._outages.get(node)
        tries = before.tries + 1 if before else 1
        rest_s = max(backoff_delay(_REST, tries, 1.0), took_s * _REST_PER_WAIT)
        self._outages[node] = _Outage(tries, self._clock() + rest_s, error)

    def answered(self, node: Node) -> None:
        """Forget the failures of a node that works again."""
        self._outages.pop(node, None)
