"""This module asks whether replicas have what a master has confirmed."""

from __future__ import annotations

from typing import Any, NamedTuple

from rambla_py.errors import ConnectionLostError, DeliveryError, UnknownOutcomeError
from rambla_py.handlers.redis.commands import pack
from rambla_py.handlers.redis.errors import NotReplicatedError

__all__ = ["Wait"]


class Wait(NamedTuple):
    """How many replicas are to have the writes of a connection, and how long they may take."""

    replicas: int
    timeout_s: float

    @property
    def command(self) -> bytes:
        """The command that asks; it waits for all writes that went before it on its connection."""
        return pack((b"WAIT", b"%d" % self.replicas, b"%d" % max(1, round(self.timeout_s * 1000))))

    def verdict(self, reply: Any, where: str) -> DeliveryError | None:
        """Return None when the replicas have it all, or the error of every message that waited for them."""
        if isinstance(reply, ConnectionLostError | UnknownOutcomeError):
            # The master has it: to say that nothing was written would be wrong.
            return UnknownOutcomeError(f"written, but lost before the replicas confirmed it: {reply}")
        if isinstance(reply, DeliveryError):
            return reply
        if reply < self.replicas:
            return NotReplicatedError(where, reply, self.replicas, self.timeout_s)
        return None
