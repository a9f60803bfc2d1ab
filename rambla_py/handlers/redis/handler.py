"""Delivery to Redis: keys, topics, lists, streams and hashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from rambla_py.described import Described
from rambla_py.errors import AccessError, ConnectionLostError
from rambla_py.handler import Handler, Takes
from rambla_py.handlers._encoding import encoding_error
from rambla_py.handlers.redis.cluster import ClusterConnection
from rambla_py.handlers.redis.cluster_batch import ClusterBatch, denied
from rambla_py.handlers.redis.cluster_nodes import Nodes
from rambla_py.handlers.redis.connection import RedisConnection
from rambla_py.handlers.redis.encode import RedisOptions, encoder_for
from rambla_py.handlers.redis.errors import KeyDeniedError, RedirectError
from rambla_py.handlers.redis.preflight import look
from rambla_py.handlers.redis.redis_py import client_for, cluster_client_for
from rambla_py.handlers.redis.replicas import ReplicaWait
from rambla_py.handlers.redis.sentinel import Sentinels
from rambla_py.handlers.redis.settings import RedisSettings, address_of, kind_of, nodes_of

if TYPE_CHECKING:
    import redis

    from rambla_py.delivery import Delivery
    from rambla_py.handler import Preflight, Promise, State

__all__ = ["RedisHandler"]

# A batch is written in pieces, so that the server works on the first while the next is packed: 740,000
# messages/s of 256 bytes where one write for 500 gave 475,000.
_PIECE_BYTES = 32 * 1024
_PIECE_COMMANDS = 128

_UNSENT: Any = object()

_Connection = RedisConnection | ClusterConnection
_Message: TypeAlias = "Delivery[RedisOptions]"


class RedisHandler(Handler[_Connection, RedisOptions, RedisSettings]):
    """Delivers by ``set`` (the default), ``publish``, ``lpush``, ``rpush``, ``xadd`` or ``hset``.

    A batch is one write, and its replies are read together. At least once: when the connection is lost
    between write and reply, a message may arrive twice (``xadd``: with the same id in its ``id_field``;
    ``set`` and ``hset`` write the same values again). A worker writes in sequence; a failed message does not
    delay later ones. A message is applied completely or not at all, even with several keys or ``ttl_s``
    (a list with ``max_len``, and ``ttl_s`` with anything but ``set`` of one key, need the right to run
    scripts).

    The result is the reply of Redis: ``"OK"`` for ``set``, the number of receivers for ``publish``, the
    length of the list, the id of the entry, the number of new fields. ``set`` and ``hset`` take a mapping:
    bytes are stored unchanged, scalars as text, containers as JSON. Only streams hold headers, as fields.
    While the server takes no writes (READONLY, LOADING, OOM, BUSY and similar), messages wait
    (``UnavailableError``). A missing right is an ``AccessError``, and for a key that the payload names
    permanent; WRONGTYPE and ERR are permanent.

    With ``cluster`` each command goes to the node of its slot; messages for a node that is away wait, while
    the others are delivered; a mapping in several slots is set key by key.
    With ``sentinels`` every connect asks them for the master. A failover may lose what Redis confirmed,
    unless ``wait_replicas`` makes replicas confirm it too.

    >>> RedisHandler.Options(command="rpush", list="jobs", max_len=1000).ttl_s is None
    True
    """

    Connection: ClassVar[Any] = RedisSettings
    Options: ClassVar[Any] = RedisOptions
    guarantee: ClassVar[str] = (
        "at least once; when the connection is lost between write and reply, a message may arrive twice "
        "(xadd: with the same id in id_field); in sequence within a worker, except failed messages; "
        "publish reaches only current subscribers; "
        "a failover of Redis may lose what it confirmed, unless wait_replicas is set"
    )

    @classmethod
    def promises(cls, settings: Any, options: Any) -> Promise:
        """Return ``none`` for ``publish``, which stores nothing."""
        return "at least once" if options is None or options.command != "publish" else "none"

    @classmethod
    def takes_for(cls, options: Any) -> Takes:
        """Return ``"object"`` where a command writes the values of a mapping one by one."""
        if options is None:
            return "object"
        one_by_one = options.command in ("set", "hset") or (
            options.command == "xadd" and options.fields == "mapping"
        )
        return "object" if one_by_one else "bytes"

    def __init__(self, settings: RedisSettings, **where: Any) -> None:
        super().__init__(settings, **where)
        self._clients: dict[int, Any] = {}
        self._discovery: Nodes | Sentinels | None = None
        replicas = settings.wait_replicas
        self._wait = ReplicaWait(replicas, settings.wait_timeout_s) if replicas else None

    def describe(self, options: Any) -> Described:
        """Return the server, and the topic, list, stream or hash."""
        return Described.of(self, "redis", options.topic or options.list or options.stream or options.hash)

    def connect(self) -> _Connection:
        """Connect, log in and select the database, after discovery of the nodes or the master."""
        settings = self.settings
        kind = kind_of(settings)
        if kind == "plain":
            return RedisConnection(
                address_of(settings),
                connect_timeout_s=settings.connect_timeout_s,
                read_timeout_s=settings.read_timeout_s,
            )
        if self._discovery is None:  # kept: the known nodes and sentinels are of use after a loss
            self._discovery = _nodes(settings) if kind == "cluster" else Sentinels(settings)
        known = self._discovery
        return ClusterConnection(known) if isinstance(known, Nodes) else known.connect()

    def close(self, connection: _Connection) -> None:
        """Close the connection and the client of callable payloads; from any thread."""
        connection.close()
        client = self._clients.pop(id(connection), None)
        if client is not None:
            client.close()

    def ping(self, connection: _Connection) -> None:
        """Send PING; in a cluster to every master, after a check that they serve all slots."""
        connection.ping()

    def preflight(self, connection: _Connection, report: Preflight) -> None:
        """Check the rights of the user, and the type of the key; runs no command."""
        if isinstance(connection, ClusterConnection):
            report.not_checked("the right to write, in a cluster")
        else:
            look(connection, self.options or RedisOptions(), self.channel, report)

    @classmethod
    def event_prefix(cls, options: RedisOptions) -> str | None:
        """Return ``ce_`` for ``xadd`` of whole payloads; other commands have no headers."""
        return options.event_prefix

    def handle_batch(self, messages: Sequence[_Message], state: State[_Connection]) -> list[Any]:
        """Write all commands and read all replies; return a result or an error for each message."""
        connection: _Connection = state.connection
        if isinstance(connection, ClusterConnection):
            limit = self.settings.max_bulk_bytes
            return connection.exchange(
                ClusterBatch(messages, channel=self.channel, max_bulk_bytes=limit), self._wait
            )
        results = self._exchange(messages, connection)
        if self._wait is not None:
            _await_replicas(results, connection, self._wait)
        if connection.special:
            connection.special = False
            results = [_mended(result, messages[at]) for at, result in enumerate(results)]
        return results if connection.lost is None else _after_loss(results, connection.lost)

    def _exchange(self, messages: Sequence[Delivery], connection: RedisConnection) -> list[Any]:
        connection.check()
        results: list[Any] = [_UNSENT] * len(messages)
        due: list[int] = []
        for indexes, commands in self._pieces(messages, results):
            connection.send(commands)
            due += indexes
            if connection.full:
                _put(results, due, connection.receive())
                due = []
                if connection.lost is not None:
                    break
        _put(results, due, connection.receive())
        return results

    def destination(self, connection: _Connection) -> redis.Redis | redis.RedisCluster:
        """Return a ``redis.Redis``, for a cluster a ``redis.RedisCluster``, with the same login.

        It is kept until ``close``.
        """
        client = self._clients.get(id(connection))
        if client is None:
            if isinstance(connection, ClusterConnection):
                client = cluster_client_for(self.settings, connection.nodes)
            else:
                client = client_for(connection.address, self.settings)
            self._clients[id(connection)] = client
        return client

    def _pieces(
        self, messages: Sequence[Delivery], results: list[Any]
    ) -> Iterator[tuple[list[int], list[bytes]]]:
        """Yield indexes and commands, some kB at a time; a message that cannot be packed gets its error."""
        indexes: list[int] = []
        commands: list[bytes] = []
        size, options, encode = 0, None, None
        for index, message in enumerate(messages):
            try:
                if encode is None or message.options is not options:
                    options = message.options
                    encode = encoder_for(options, self.channel, self.settings.max_bulk_bytes)
                command = encode(message)
            except Exception as error:  # what a payload's own code raises fails its message alone
                results[index] = encoding_error(error)
                continue
            indexes.append(index)
            commands.append(command)
            size += len(command)
            if size >= _PIECE_BYTES or len(commands) >= _PIECE_COMMANDS:
                yield indexes, commands
                indexes, commands, size = [], [], 0
        if commands:
            yield indexes, commands


def _nodes(settings: RedisSettings) -> Nodes:
    return Nodes(
        address_of(settings),
        nodes_of(settings),
        connect_timeout_s=settings.connect_timeout_s,
        read_timeout_s=settings.read_timeout_s,
    )


def _await_replicas(results: list[Any], connection: RedisConnection, wait: ReplicaWait) -> None:
    """Replace confirmed results by an error where too few replicas have the write."""
    done = [
        at for at, result in enumerate(results) if result is not _UNSENT and not isinstance(result, Exception)
    ]
    if not done:
        return
    reply: Any = connection.lost
    if reply is None:
        connection.send([wait.command])
        (reply,) = connection.receive()
    error = wait.error_for(reply, connection.address.where)
    for at in done if error is not None else ():
        results[at] = error


def _mended(result: Any, message: Delivery) -> Any:
    """Return a result, as an ``AccessError`` where the connection's table or a right needs an operator."""
    if type(result) is RedirectError:
        return AccessError(str(result))
    return denied(result, message) if type(result) is KeyDeniedError else result


def _put(results: list[Any], indexes: Sequence[int], replies: Sequence[Any]) -> None:
    for index, reply in zip(indexes, replies, strict=True):
        results[index] = reply.decode() if type(reply) is bytes else reply


def _after_loss(results: list[Any], lost: ConnectionLostError) -> list[Any]:
    """Return the results, with the loss for what was not sent; raises it when nothing was."""
    rest = [lost if result is _UNSENT else result for result in results]
    if all(isinstance(result, ConnectionLostError) for result in rest):
        raise lost
    return rest
