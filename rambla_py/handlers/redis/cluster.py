"""This module speaks to a Redis cluster: each command to the node that serves its slot."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rambla_py.errors import ConnectionLostError, DeliveryError
from rambla_py.handlers.redis.commands import pack
from rambla_py.handlers.redis.errors import RedirectError, UnservedError, joined_error
from rambla_py.handlers.redis.nodes import Nodes
from rambla_py.handlers.redis.replicas import Wait
from rambla_py.handlers.redis.routes import Part
from rambla_py.handlers.redis.slots import SlotMap, gaps, slot_map
from rambla_py.handlers.redis.urls import Node
from rambla_py.handlers.redis.wire import RedisWire
from rambla_py.handlers.redis.work import Sent, Step, Work, waves

__all__ = ["ClusterWire"]

_MOST_HOPS = 5
_LOOK_EVERY_S = 0.1
_ASKING = pack((b"ASKING",))


class ClusterWire:
    """Live connections to the nodes of a cluster, for one thread; only ``close`` may be called from another.

    Raises ``ConnectionLostError`` when no node tells where the slots are, ``AccessError`` when that is for
    the password or a certificate. Masters are connected to when the first message is for them.
    """

    def __init__(self, nodes: Nodes, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._nodes, self._clock = nodes, clock
        self._wires: dict[Node, RedisWire] = {}
        self._owners: SlotMap = []
        self._stale, self._look_at = False, 0.0
        self._teller: Node | None = None
        self._closed = False
        try:
            self._look()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<ClusterWire {', '.join(map(str, list(self._wires))) or 'not connected'}>"

    @property
    def nodes(self) -> list[Node]:
        """The nodes that are known, masters first."""
        return list(self._nodes)

    def exchange(self, parts: Sequence[Part], wait: Wait | None = None) -> list[Any]:
        """Return a reply for each part, or its error.

        ``UnservedError`` where nothing was applied, because the node of the slot is not there or takes
        nothing for now. When a connection breaks: ``UnknownOutcomeError`` for what was written to its node
        and not answered, ``ConnectionLostError`` for what was not, and for all that would have been sent
        later, so that it does not overtake what is tried again.
        """
        work = Work(parts)
        for wave in waves(parts):
            if work.lost is None:
                self._deliver(work, wave)
                continue
            for place in wave:
                work.replies[place] = work.lost
        if wait is not None:
            self._await_replicas(work, wait)
        return work.replies

    def ping(self) -> None:
        """Raise ``ConnectionLostError`` or ``AccessError`` unless every slot has a master that answers."""
        self._look()
        missing = gaps(self._owners)
        if missing:
            raise ConnectionLostError(
                f"the cluster is not whole: no node serves the slots {', '.join(missing)}"
            )
        problems: list[ConnectionLostError] = []
        for node in sorted({owner for owner in self._owners if owner is not None}):
            try:
                self._ready(node).ping()
            except ConnectionLostError as error:
                problems.append(error)
        if problems:
            raise joined_error("not every node of the cluster answers", problems)

    def close(self) -> None:
        """Close all connections at once; whoever waits for a reply on another thread is woken."""
        self._closed = True
        for wire in list(self._wires.values()):
            wire.close()

    # -- where the slots are ----------------------------------------------------------------------------

    def _look(self) -> None:
        """Ask the nodes in turn which slot is whose, until one tells."""
        problems: list[ConnectionLostError] = []
        for node in self._to_ask():
            try:
                owners = self._map_of(node)
            except ConnectionLostError as error:
                problems.append(error)
                continue
            self._owners, self._stale, self._teller = owners, False, None
            self._look_at = self._clock() + _LOOK_EVERY_S
            self._nodes.seen(owner for owner in owners if owner is not None)
            return
        self._look_at = self._clock() + _LOOK_EVERY_S
        raise joined_error("no node of the cluster answers", problems)

    def _to_ask(self) -> list[Node]:
        """Return who may know: who told of a move first, then who is connected, then all the others."""
        first = [self._teller] if self._teller is not None else []
        return list(dict.fromkeys([*first, *self._wires, *self._nodes]))

    def _map_of(self, node: Node) -> SlotMap:
        wire = self._ready(node)
        try:
            owners = slot_map(wire.ask(b"CLUSTER", b"SLOTS"), node)
        except ValueError as error:
            raise ConnectionLostError(f"{wire.address.where}: {error}") from None
        except ConnectionLostError as error:
            if "cluster support disabled" not in str(error):
                raise
            raise ConnectionLostError(f"{error}; leave cluster out of its connection") from None
        finally:
            self._drop_if_lost(node, wire)
        if not any(owners):
            raise ConnectionLostError(f"{wire.address.where} knows of no node that serves slots")
        return owners

    def _look_if_due(self) -> None:
        if self._stale and self._clock() >= self._look_at:
            try:
                self._look()
            except ConnectionLostError:
                return  # the messages say what it means for them

    # -- messages -----------------------------------------------------------------------------------------

    def _deliver(self, work: Work, places: Sequence[int]) -> None:
        steps = [Step(place) for place in places]
        for _ in range(_MOST_HOPS):
            self._look_if_due()
            steps = self._hop(work, steps)
            if not steps:
                return
        for step in steps:
            work.replies[step.place] = UnservedError(
                f"the nodes sent it from one to the next {_MOST_HOPS} times"
            )

    def _hop(self, work: Work, steps: Sequence[Step]) -> list[Step]:
        """Send each part to its node, and take all replies; return what was sent elsewhere, in order."""
        sent = [self._send(work, node, group) for node, group in self._grouped(work, steps).items()]
        again: list[Step] = []
        late = False
        for one in sent:
            if one is None:
                continue
            if late:
                one.wire.hurry()
            again += self._receive(work, one)
            late = late or one.wire.timed_out
        return sorted(again)

    def _grouped(self, work: Work, steps: Sequence[Step]) -> dict[Node, list[Step]]:
        groups: dict[Node, list[Step]] = {}
        for step in steps:
            slot = work.parts[step.place].slot
            node = step.asked or self._owners[slot]
            if node is None:
                self._stale = True
                work.replies[step.place] = UnservedError(f"no node of the cluster serves slot {slot}")
            else:
                groups.setdefault(node, []).append(step)
        return groups

    def _send(self, work: Work, node: Node, steps: Sequence[Step]) -> Sent | None:
        try:
            wire = self._ready(node)
        except ConnectionLostError as error:
            self._stale = True
            for step in steps:
                work.replies[step.place] = UnservedError(str(error))
            return None
        commands: list[bytes] = []
        for step in steps:
            if step.asked is not None:
                commands.append(_ASKING)
            commands.append(work.parts[step.place].command)
        wire.send(commands)
        return Sent(node, wire, steps)

    def _receive(self, work: Work, sent: Sent) -> list[Step]:
        again: list[Step] = []
        replies = iter(sent.wire.receive())
        if sent.wire.lost is not None and isinstance(sent.wire.lost.__cause__, OSError):
            work.lost = sent.wire.lost  # broken, where a node may also just say that it takes nothing
        for step in sent.steps:
            if step.asked is not None:
                next(replies)  # that of ASKING
            reply = next(replies)
            if type(reply) is bytes:  # nearly all of them: the others are asked what they are
                reply = reply.decode()
            elif isinstance(reply, RedirectError):
                again.append(self._redirected(step, reply, sent.node))
                continue
            elif isinstance(reply, DeliveryError):
                reply = self._judged(reply, work)
            work.replies[step.place] = reply
            work.served_by[step.place] = sent.node
        self._drop_if_lost(sent.node, sent.wire)
        return again

    def _redirected(self, step: Step, redirect: RedirectError, answered: Node) -> Step:
        node = redirect.node(answered)
        if redirect.asking:
            return Step(step.place, node)
        self._owners[redirect.slot] = node
        self._stale, self._teller = True, answered
        return Step(step.place)

    def _judged(self, error: DeliveryError, work: Work) -> DeliveryError:
        if isinstance(error, ConnectionLostError) and work.lost is None:
            return UnservedError(str(error))  # of this node alone: the connection to the others stands
        if isinstance(error, UnservedError):
            self._stale = True
        return error

    def _await_replicas(self, work: Work, wait: Wait) -> None:
        """Turn what is confirmed into an error where too few replicas have it."""
        done = [at for at, reply in enumerate(work.replies) if not isinstance(reply, Exception)]
        verdicts: dict[Node | None, Any] = {}
        waiting: list[tuple[Node, RedisWire]] = []
        for node in dict.fromkeys(work.served_by[at] for at in done):
            wire = None if node is None else self._wires.get(node)
            if node is None or wire is None:
                gone = ConnectionLostError(f"the connection to {node} is gone")
                verdicts[node] = wait.verdict(gone, str(node))
            else:
                wire.send([wait.command])
                waiting.append((node, wire))
        late = False
        for node, wire in waiting:
            if late:
                wire.hurry()
            (reply,) = wire.receive()
            late = late or wire.timed_out
            verdicts[node] = wait.verdict(reply, wire.address.where)
            self._drop_if_lost(node, wire)
        for at in done:
            work.replies[at] = verdicts[work.served_by[at]] or work.replies[at]

    # -- connections --------------------------------------------------------------------------------------

    def _ready(self, node: Node) -> RedisWire:
        """Return a connection that stood a moment ago; raises ``ConnectionLostError``."""
        wire = self._wires.get(node)
        if wire is not None:
            try:
                wire.check()
                return wire
            except ConnectionLostError:  # closed while idle: nothing of ours was on its way
                wire.close()
                del self._wires[node]
        if self._closed:
            raise ConnectionLostError("the connection to the cluster is closed")
        wire = self._nodes.open(node)
        self._wires[node] = wire
        if self._closed:  # meanwhile, from another thread, which did not see this one
            wire.close()
        self._nodes.answered(node)
        return wire

    def _drop_if_lost(self, node: Node, wire: RedisWire) -> None:
        if wire.lost is None:
            return
        self._stale = True
        self._wires.pop(node, None)
        wire.close()
        self._nodes.failed(node, wire.lost)
