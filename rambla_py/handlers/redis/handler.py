"""This module delivers to Redis: keys, topics, lists, streams and hashes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.errors import ConnectionLostError
from rambla_py.handler import Handler
from rambla_py.handlers.redis.client import client_for, cluster_client_for
from rambla_py.handlers.redis.cluster import ClusterWire
from rambla_py.handlers.redis.commands import RedisOptions, encoder_for
from rambla_py.handlers.redis.errors import UnservedError
from rambla_py.handlers.redis.nodes import Nodes
from rambla_py.handlers.redis.replicas import Wait
from rambla_py.handlers.redis.scatter import scatter
from rambla_py.handlers.redis.sentinel import Sentinels
from rambla_py.handlers.redis.settings import RedisConnection, address_of, kind_of, nodes_of
from rambla_py.handlers.redis.wire import RedisWire
from rambla_py.message import Retry
from rambla_py.policy import Backoff, backoff_delay

if TYPE_CHECKING:
    import redis

    from rambla_py.delivery import Delivery
    from rambla_py.handler import State
    from rambla_py.outcome import Outcome

__all__ = ["RedisHandler"]

# A batch is written in pieces, so that the server works on the first while the next is packed: 740,000
# messages/s of 256 bytes where one write for 500 gave 475,000.
_PIECE_BYTES = 32 * 1024
_PIECE_COMMANDS = 128

# How soon a message is tried again whose part of a cluster is not served: a failover takes seconds.
_UNSERVED = Backoff(initial_s=0.1, multiplier=2.0, max_s=1.0)

_UNSENT: Any = object()


class RedisHandler(Handler):
    """Delivers by ``set`` (the default), ``publish``, ``lpush``, ``rpush``, ``xadd`` or ``hset``.

    A batch is written as one, and its replies are read together. At least once: after a loss between the
    write and the answer a message may come twice (an ``xadd`` then carries the same id in its ``id_field``;
    ``set`` and ``hset`` write the same again). One worker writes in the order it was given; a failed message
    does not hold up those behind it. A message is applied whole or not at all, also with several keys or
    ``ttl_s`` (a list with ``max_len``, and anything but ``set`` of one key with ``ttl_s``, needs the right to
    run scripts).

    The result is what Redis answers: ``"OK"`` for ``set``, the number of receivers for ``publish``, the
    list's length, the entry's id, the number of new fields. ``set`` and ``hset`` take a mapping: bytes go
    as they are, scalars as text, containers as JSON. Headers have a place in streams only, as fields.
    Error replies fail their message alone: OOM, BUSY and the like are retried; READONLY, LOADING and
    MASTERDOWN count as a lost connection; WRONGTYPE, NOPERM and what Redis calls ERR are permanent.

    With ``cluster`` each command goes to the node of its slot; messages for a node that is away are tried
    again without spending a retry, the others are delivered; a mapping in several slots is set key by key.
    With ``sentinels`` the master is asked for at every connect. Redis may lose in a failover what it
    confirmed, unless ``wait_replicas`` had replicas confirm it too.

    >>> RedisHandler.Options(command="rpush", list="jobs", max_len=1000).ttl_s is None
    True
    """

    Connection: ClassVar[Any] = RedisConnection
    Options: ClassVar[Any] = RedisOptions
    guarantee: ClassVar[str] = (
        "at least once; after a loss between write and answer a message may come twice (xadd: with the "
        "same id in id_field); in sequence within a worker, failed messages aside; "
        "publish reaches the subscribers of that moment only; "
        "a failover of Redis may lose what it confirmed, wait_replicas aside"
    )

    def __init__(self, settings: Any, **where: Any) -> None:
        super().__init__(settings, **where)
        self._clients: dict[int, Any] = {}
        self._opener: Nodes | Sentinels | None = None
        wanted = settings.wait_replicas
        self._wait = Wait(wanted, settings.wait_timeout_s) if wanted else None

    def connect(self) -> RedisWire | ClusterWire:
        """Connect, log in and choose the database; find the nodes, or the master, first."""
        settings = self.settings
        kind = kind_of(settings)
        if kind == "plain":
            return RedisWire(
                address_of(settings),
                connect_timeout_s=settings.connect_timeout_s,
                read_timeout_s=settings.read_timeout_s,
            )
        if self._opener is None:  # kept: what was learned of nodes and sentinels holds after a loss
            self._opener = _nodes(settings) if kind == "cluster" else Sentinels(settings)
        return ClusterWire(self._opener) if isinstance(self._opener, Nodes) else self._opener.connect()

    def close(self, connection: RedisWire | ClusterWire) -> None:
        """Close the connection, and the client that callable payloads were given; from any thread."""
        connection.close()
        client = self._clients.pop(id(connection), None)
        if client is not None:
            client.close()

    def ping(self, connection: RedisWire | ClusterWire) -> None:
        """Send PING; in a cluster to every master, and see whether they have all slots."""
        connection.ping()

    @classmethod
    def event_prefix(cls, options: RedisOptions) -> str | None:
        """Return ``ce_`` for ``xadd`` of whole payloads; nothing else has a place for headers."""
        return options.event_prefix

    def on_failure(self, outcome: Outcome) -> Retry | None:
        """Spare the retries of a message whose part of the cluster is not served; it was not applied."""
        error = outcome.error
        if not isinstance(error, UnservedError) or error.left is None:
            return None
        delay_s = backoff_delay(_UNSERVED, outcome.attempts, random.uniform(0.5, 1.0))
        return Retry(delay_s=delay_s, retries=error.left + 1)

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        """Write all commands, read all replies; errors stand in the place of their message."""
        wire: RedisWire | ClusterWire = state.connection
        if isinstance(wire, ClusterWire):
            limit = self.settings.max_bulk_bytes
            return scatter(messages, wire, channel=self.channel, max_bulk_bytes=limit, wait=self._wait)
        answers = self._exchange(messages, wire)
        if self._wait is not None:
            _await_replicas(answers, wire, self._wait)
        return answers if wire.lost is None else _after_loss(answers, wire.lost)

    def _exchange(self, messages: Sequence[Delivery], wire: RedisWire) -> list[Any]:
        wire.check()
        answers: list[Any] = [_UNSENT] * len(messages)
        due: list[int] = []
        for places, commands in self._pieces(messages, answers):
            wire.send(commands)
            due += places
            if wire.full:
                _put(answers, due, wire.receive())
                due = []
                if wire.lost is not None:
                    break
        _put(answers, due, wire.receive())
        return answers

    def destination(self, connection: RedisWire | ClusterWire) -> redis.Redis | redis.RedisCluster:
        """Return a ``redis.Redis`` for the same server, user and database, kept until ``close``.

        For a cluster it is a ``redis.RedisCluster``.
        """
        client = self._clients.get(id(connection))
        if client is None:
            if isinstance(connection, ClusterWire):
                client = cluster_client_for(self.settings, connection.nodes)
            else:
                client = client_for(connection.address, self.settings)
            self._clients[id(connection)] = client
        return client

    def _pieces(
        self, messages: Sequence[Delivery], answers: list[Any]
    ) -> Iterator[tuple[list[int], list[bytes]]]:
        """Yield places and commands, some kB at a time; what cannot be packed is answered with its error."""
        places: list[int] = []
        commands: list[bytes] = []
        size, options, encode = 0, None, None
        for place, message in enumerate(messages):
            try:
                if encode is None or message.options is not options:
                    options = message.options
                    encode = encoder_for(options, self.channel, self.settings.max_bulk_bytes)
                command = encode(message)
            except Exception as error:  # what a payload's own code raises is the failure of its message alone
                answers[place] = error
                continue
            places.append(place)
            commands.append(command)
            size += len(command)
            if size >= _PIECE_BYTES or len(commands) >= _PIECE_COMMANDS:
                yield places, commands
                places, commands, size = [], [], 0
        if commands:
            yield places, commands


def _nodes(settings: RedisConnection) -> Nodes:
    return Nodes(
        address_of(settings),
        nodes_of(settings),
        connect_timeout_s=settings.connect_timeout_s,
        read_timeout_s=settings.read_timeout_s,
    )


def _await_replicas(answers: list[Any], wire: RedisWire, wait: Wait) -> None:
    """Turn what is confirmed into an error where too few replicas have it."""
    done = [
        at for at, answer in enumerate(answers) if answer is not _UNSENT and not isinstance(answer, Exception)
    ]
    if not done:
        return
    reply: Any = wire.lost
    if reply is None:
        wire.send([wait.command])
        (reply,) = wire.receive()
    verdict = wait.verdict(reply, wire.address.where)
    for at in done if verdict is not None else ():
        answers[at] = verdict


def _put(answers: list[Any], places: Sequence[int], replies: Sequence[Any]) -> None:
    for place, reply in zip(places, replies, strict=True):
        answers[place] = reply.decode() if type(reply) is bytes else reply


def _after_loss(answers: list[Any], lost: ConnectionLostError) -> list[Any]:
    """Return the answers with the loss for what was not sent; raises it when nothing was."""
    rest = [lost if answer is _UNSENT else answer for answer in answers]
    if all(isinstance(answer, ConnectionLostError) for answer in rest):
        raise lost
    return rest
