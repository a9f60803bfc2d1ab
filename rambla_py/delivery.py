"""This module is one message on its way to one target, as handlers see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from rambla_py.errors import UnknownOutcomeError
from rambla_py.message import Failed
from rambla_py.outcome import Outcome, Status

if TYPE_CHECKING:
    from rambla_py.policy import Policy
    from rambla_py.receipt import Receipt

__all__ = ["Delivery"]


class _Target(Protocol):
    service: str
    channel: str
    id_prefix: str

    def encode(self, delivery: Delivery) -> bytes: ...


class _Session(Protocol):
    def settle(self, delivery: Delivery, answer: Any) -> None: ...

    def settle_ok(self, delivery: Delivery, result: Any) -> None: ...


class Delivery(msgspec.Struct, gc=False, eq=False):
    """A message with everything that one target needs to deliver it.

    A handler reads ``payload``, ``id``, ``key``, ``headers``, ``options`` (its own ``Options``, merged),
    ``policy`` (the reserved options) and ``body()``. One that implements ``handle_deliveries`` settles it
    with ``ok``, ``failed`` or ``unknown``: once, from any thread; a second settle, or one for an attempt
    that was given up in the meantime, is ignored.

    The object stands for one attempt: a retry travels as a renewed one, which is how a late settle of the
    first is told from an answer to the second. It has no part in garbage collection (a million may wait);
    the cycle with its receipt is cut when the receipt is settled.
    """

    payload: Any
    target: _Target
    receipt: Receipt | None
    seq: int
    accepted_at: float
    options: Any
    policy: Policy
    headers: dict[str, Any]
    key: str | None = None
    given_id: str | None = None
    slot: int = 0
    calls: bool = False
    holds_lane: bool = False
    attempts: int = 0
    failures: int = 0
    left: int = -1
    rounds: int = 0
    losses: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    status: Status | None = None
    result: Any = None
    error: BaseException | None = None
    fallback: Outcome | None = None
    session: _Session | None = None
    encoded: bytes | None = None

    @property
    def id(self) -> str:
        """The message's id: the one given, or time, a random number of the process, and a count."""
        return self.given_id or f"{self.target.id_prefix}{self.seq:x}"

    @property
    def expires_at(self) -> float | None:
        """When it expires, on the monotonic clock in seconds; None for never."""
        expires_s = self.policy.expires_s
        return None if expires_s is None else self.accepted_at + expires_s

    def body(self) -> bytes:
        """Return the bytes for the wire; raises ``SerializationError``. Encoded once, kept for retries."""
        if self.encoded is None:
            self.encoded = self.target.encode(self)
        return self.encoded

    def ok(self, result: Any = None) -> None:
        """Settle as delivered."""
        if self.session is not None:
            self.session.settle_ok(self, result)

    def failed(self, reason: str | BaseException = "failed", *, retryable: bool | None = None) -> None:
        """Settle as a failed attempt; ``retryable`` defaults to what the reason itself says."""
        if self.session is None:
            return
        if retryable is None and isinstance(reason, BaseException):
            self.session.settle(self, reason)
        else:
            self.session.settle(self, Failed(reason, True if retryable is None else retryable))

    def unknown(self, reason: str | BaseException = "the connection was lost before the answer") -> None:
        """Settle as lost between the write and the answer; the worker takes the connection as gone."""
        if self.session is not None:
            error = reason if isinstance(reason, UnknownOutcomeError) else UnknownOutcomeError(str(reason))
            self.session.settle(self, error)

    def renewed(self) -> Delivery:
        """Return the same delivery for its next attempt; this object is inert from now on."""
        return msgspec.structs.replace(self, session=None, status=None, result=None)

    def outcome(self) -> Outcome:
        """Return how it ended, or how this attempt went."""
        queued_s = max(0.0, (self.started_at or self.ended_at) - self.accepted_at)
        return Outcome(
            channel=self.target.channel,
            service=self.target.service,
            status=self.status or "failed",
            result=self.result,
            error=self.error,
            attempts=self.attempts,
            message_id=self.id,
            fallback=self.fallback,
            queued_s=queued_s,
            took_s=max(0.0, self.ended_at - self.started_at) if self.started_at else 0.0,
            payload=self.payload,
        )

    def __repr__(self) -> str:
        return (
            f"Delivery({self.target.service}.{self.target.channel} {self.id}, "
            f"attempts={self.attempts}, status={self.status})"
        )
