"""The WAIT command: whether replicas have what their master confirmed."""

from __future__ import annotations

from typing import Any, NamedTuple

from rambla_py.errors import ConnectionLostError, DeliveryError, UnknownOutcomeError
from rambla_py.handlers.redis.encode import pack
from rambla_py.handlers.redis.errors import NotReplicatedError

__all__ = ["ReplicaWait"]


class ReplicaWait(NamedTuple):
    """How many replicas must have the writes of a connection, and how long they may take."""

    replicas: int
    timeout_s: float

    @property
    def command(self) -> bytes:
        """The WAIT command, which covers all earlier writes of its connection."""
        return pack((b"WAIT", b"%d" % self.replicas, b"%d" % max(1, round(self.timeout_s * 1000))))

    def error_for(self, reply: Any, where: str) -> DeliveryError | None:
        """Return None when enough replicas have the writes, else the error of every message that waited."""
        if isinstance(reply, ConnectionLostError | UnknownOutcomeError):
            # The master has it, so "nothing was written" would be wrong.
            return UnknownOutcomeError(f"written, but lost before the replicas confirmed it: {reply}")
        if isinstance(reply, DeliveryError):
            return reply
        if reply < self.replicas:
            return NotReplicatedError(where, reply, self.replicas, self.timeout_s)
        return None
