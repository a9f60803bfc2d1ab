"""Connections to the nodes of a Redis cluster; each command goes to the node that serves its slot."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rambla_py._internal.redis_urls import Node
from rambla_py.errors import AccessError, ConnectionLostError, DeliveryError, UnavailableError
from rambla_py.handlers.redis.cluster_batch import ClusterBatch, Step
from rambla_py.handlers.redis.cluster_nodes import Nodes
from rambla_py.handlers.redis.cluster_slots import SlotMap, gaps, slot_map
from rambla_py.handlers.redis.connection import RedisConnection
from rambla_py.handlers.redis.encode import pack
from rambla_py.handlers.redis.errors import RedirectError, joined_error
from rambla_py.handlers.redis.replicas import ReplicaWait

__all__ = ["ClusterConnection"]

_MAX_HOPS = 5
_REFRESH_EVERY_S = 0.1
_ASKING = pack((b"ASKING",))
_NO_NODE = "redis slots without a node"


class _Sent(NamedTuple):
    """What was written to one node, in order, and not answered yet."""

    node: Node
    connection: RedisConnection
    steps: Sequence[Step]


class ClusterConnection:
    """Live connections to the nodes of a cluster, for one thread; only ``close`` may be called from another.

    Raises ``ConnectionLostError`` when no node returns the slot map, ``AccessError`` when a password or a
    certificate is the reason. A master is connected to when the first message for it arrives.
    """

    def __init__(self, nodes: Nodes, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._nodes, self._clock = nodes, clock
        self._connections: dict[Node, RedisConnection] = {}
        self._owners: SlotMap = []
        self._stale, self._refresh_at = False, 0.0
        self._informant: Node | None = None
        self._closed = False
        try:
            self._refresh()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<ClusterConnection {', '.join(map(str, list(self._connections))) or 'not connected'}>"

    @property
    def nodes(self) -> list[Node]:
        """The known nodes, masters first."""
        return list(self._nodes)

    def exchange(self, batch: ClusterBatch, wait: ReplicaWait | None = None) -> list[Any]:
        """Send a batch, and return a result or an error for each message.

        ``UnavailableError`` where nothing was applied, because the node of the slot is away or takes no
        writes now; its scope is the node. When a connection breaks: ``UnknownOutcomeError`` for what was
        written to its node and not answered, ``ConnectionLostError`` for what was not, and for all that would
        have been sent later, so that it does not overtake what is retried.
        """
        for wave in batch.waves():
            if batch.lost is None:
                self._deliver(batch, wave)
                continue
            for index in wave:
                batch.replies[index] = batch.lost
        if wait is not None:
            self._await_replicas(batch, wait)
        return batch.results()

    def ping(self) -> None:
        """Raise ``ConnectionLostError`` or ``AccessError`` unless every slot has a master that answers."""
        self._refresh()
        missing = gaps(self._owners)
        if missing:
            raise ConnectionLostError(
                f"the cluster is incomplete: no node serves the slots {', '.join(missing)}"
            )
        problems: list[ConnectionLostError] = []
        for node in sorted({owner for owner in self._owners if owner is not None}):
            try:
                self._connected(node).ping()
            except ConnectionLostError as error:
                problems.append(error)
        if problems:
            raise joined_error("not every node of the cluster answers", problems)

    def close(self) -> None:
        """Close all connections at once; threads that wait for a reply are woken."""
        self._closed = True
        for connection in list(self._connections.values()):
            connection.close()

    # -- the slot map -----------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Ask the nodes in turn for the slot map, until one returns it."""
        problems: list[ConnectionLostError] = []
        for node in self._candidates():
            try:
                owners = self._slot_map_from(node)
            except ConnectionLostError as error:
                problems.append(error)
                continue
            self._owners, self._stale, self._informant = owners, False, None
            self._refresh_at = self._clock() + _REFRESH_EVERY_S
            self._nodes.seen(owner for owner in owners if owner is not None)
            return
        self._refresh_at = self._clock() + _REFRESH_EVERY_S
        raise joined_error("no node of the cluster answers", problems)

    def _candidates(self) -> list[Node]:
        """Return the nodes to ask: the one that reported a move, then the connected ones, then the others."""
        first = [self._informant] if self._informant is not None else []
        return list(dict.fromkeys([*first, *self._connections, *self._nodes]))

    def _slot_map_from(self, node: Node) -> SlotMap:
        connection = self._connected(node)
        try:
            owners = slot_map(connection.ask(b"CLUSTER", b"SLOTS"), node)
        except ValueError as error:
            raise ConnectionLostError(f"{connection.address.where}: {error}") from None
        except ConnectionLostError as error:
            if "cluster support disabled" not in str(error):
                raise
            raise ConnectionLostError(f"{error}; remove cluster from its connection") from None
        finally:
            self._drop_if_lost(node, connection)
        if not any(owners):
            raise ConnectionLostError(f"{connection.address.where} knows no node that serves slots")
        return owners

    def _refresh_if_due(self) -> None:
        if self._stale and self._clock() >= self._refresh_at:
            try:
                self._refresh()
            except ConnectionLostError:
                return  # the messages get an error of their own

    # -- messages ---------------------------------------------------------------------------------------

    def _deliver(self, batch: ClusterBatch, wave: Sequence[int]) -> None:
        steps = [Step(index) for index in wave]
        for _ in range(_MAX_HOPS):
            self._refresh_if_due()
            steps = self._hop(batch, steps)
            if not steps:
                return
        for step in steps:
            slot = batch.parts[step.place].slot
            text = f"redirected more than {_MAX_HOPS} times"
            batch.replies[step.place] = UnavailableError(text, scope=f"redis slot {slot}")

    def _hop(self, batch: ClusterBatch, steps: Sequence[Step]) -> list[Step]:
        """Send each part to its node and read all replies; return the redirected parts, in order."""
        sent = [self._send(batch, node, group) for node, group in self._grouped(batch, steps).items()]
        again: list[Step] = []
        late = False
        for group in sent:
            if group is None:
                continue
            if late:
                group.connection.stop_waiting()
            again += self._receive(batch, group)
            late = late or group.connection.timed_out
        return sorted(again)

    def _grouped(self, batch: ClusterBatch, steps: Sequence[Step]) -> dict[Node, list[Step]]:
        groups: dict[Node, list[Step]] = {}
        for step in steps:
            slot = batch.parts[step.place].slot
            node = step.asked or self._owners[slot]
            if node is None:
                self._stale = True
                text = f"no node of the cluster serves slot {slot}"
                batch.replies[step.place] = UnavailableError(text, scope=_NO_NODE)
            else:
                groups.setdefault(node, []).append(step)
        return groups

    def _send(self, batch: ClusterBatch, node: Node, steps: Sequence[Step]) -> _Sent | None:
        try:
            connection = self._connected(node)
        except ConnectionLostError as error:
            self._stale = True
            for step in steps:
                batch.replies[step.place] = _of_node(error, node)
            return None
        commands: list[bytes] = []
        for step in steps:
            if step.asked is not None:
                commands.append(_ASKING)
            commands.append(batch.parts[step.place].command)
        connection.send(commands)
        return _Sent(node, connection, steps)

    def _receive(self, batch: ClusterBatch, sent: _Sent) -> list[Step]:
        again: list[Step] = []
        replies = iter(sent.connection.receive())
        if sent.connection.lost is not None and isinstance(sent.connection.lost.__cause__, OSError):
            batch.lost = sent.connection.lost  # broken; a node may also just refuse writes
        for step in sent.steps:
            if step.asked is not None:
                next(replies)  # the reply to ASKING
            reply = next(replies)
            if type(reply) is bytes:  # nearly all of them: test it first
                reply = reply.decode()
            elif isinstance(reply, RedirectError):
                again.append(self._redirected(step, reply, sent.node))
                continue
            elif isinstance(reply, DeliveryError):
                reply = self._node_error(reply, sent.node, batch)
            batch.replies[step.place] = reply
            batch.served_by[step.place] = sent.node
        self._drop_if_lost(sent.node, sent.connection)
        return again

    def _redirected(self, step: Step, redirect: RedirectError, answered: Node) -> Step:
        node = redirect.node(answered)
        if redirect.asking:
            return Step(step.place, node)
        self._owners[redirect.slot] = node
        self._stale, self._informant = True, answered
        return Step(step.place)

    def _node_error(self, error: DeliveryError, node: Node, batch: ClusterBatch) -> DeliveryError:
        if isinstance(error, UnavailableError):
            self._stale = True
            return _of_node(error, node)
        if type(error) is ConnectionLostError and batch.lost is None:
            return _of_node(error, node)  # the other connections are sound
        return error

    def _await_replicas(self, batch: ClusterBatch, wait: ReplicaWait) -> None:
        """Replace confirmed results by an error where too few replicas have the write."""
        done = [at for at, reply in enumerate(batch.replies) if not isinstance(reply, Exception)]
        errors: dict[Node | None, Any] = {}
        waiting: list[tuple[Node, RedisConnection]] = []
        for node in dict.fromkeys(batch.served_by[at] for at in done):
            connection = None if node is None else self._connections.get(node)
            if node is None or connection is None:
                gone = ConnectionLostError(f"the connection to {node} is gone")
                errors[node] = wait.error_for(gone, str(node))
            else:
                connection.send([wait.command])
                waiting.append((node, connection))
        late = False
        for node, connection in waiting:
            if late:
                connection.stop_waiting()
            (reply,) = connection.receive()
            late = late or connection.timed_out
            errors[node] = wait.error_for(reply, connection.address.where)
            self._drop_if_lost(node, connection)
        for at in done:
            batch.replies[at] = errors[batch.served_by[at]] or batch.replies[at]

    # -- connections ------------------------------------------------------------------------------------

    def _connected(self, node: Node) -> RedisConnection:
        """Return a connection that was open a moment ago; raises ``ConnectionLostError``."""
        connection = self._connections.get(node)
        if connection is not None:
            try:
                connection.check()
                return connection
            except ConnectionLostError:  # closed while idle: nothing was in flight
                connection.close()
                del self._connections[node]
        if self._closed:
            raise ConnectionLostError("the connection to the cluster is closed")
        connection = self._nodes.open(node)
        self._connections[node] = connection
        if self._closed:  # meanwhile, by another thread, which did not see this one
            connection.close()
        self._nodes.answered(node)
        return connection

    def _drop_if_lost(self, node: Node, connection: RedisConnection) -> None:
        if connection.lost is None and not connection.stale:
            return
        self._stale = True
        self._connections.pop(node, None)
        connection.close()
        if connection.lost is not None:
            self._nodes.failed(node, connection.lost)


def _of_node(error: DeliveryError, node: Node) -> DeliveryError:
    """Return an error that holds back the messages for one node only; nothing of the message was applied."""
    if isinstance(error, AccessError):
        return error
    return UnavailableError(str(error), scope=f"redis node {node}")
