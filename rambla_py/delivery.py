"""One message on its way to one target: what handlers see of it, and what the runtime keeps about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol

import msgspec

from rambla_py._internal.message_ids import SharedId, shared_or_new
from rambla_py.delivery_history import History, Stored
from rambla_py.errors import UnknownOutcomeError
from rambla_py.message import Failed
from rambla_py.outcome import Outcome, Status

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from rambla_py.policy import Policy
    from rambla_py.receipt import Receipt

    OptionsT = TypeVar("OptionsT", default=Any)
else:
    from typing import TypeVar

    OptionsT = TypeVar("OptionsT")

__all__ = ["Delivery", "LiveDelivery"]


class _Target(Protocol):
    service: str
    channel: str

    @property
    def config(self) -> Any: ...

    @property
    def error_text(self) -> Callable[[BaseException | None], str]: ...

    def encode(self, delivery: LiveDelivery) -> bytes: ...

    def expect_ids(self) -> None: ...


class _Connection(Protocol):
    @property
    def worker(self) -> int: ...

    def settle(self, delivery: LiveDelivery, answer: Any) -> None: ...

    def settle_ok(self, delivery: LiveDelivery, result: Any) -> None: ...


class Delivery(msgspec.Struct, Generic[OptionsT], gc=False, eq=False):
    """One message on its way to one target, as a handler sees it.

    ``payload`` is shared by all targets of the message: read it, do not change it. ``options`` is an
    instance of the handler's ``Options`` with all levels merged (None where the class declares none),
    ``policy`` holds the reserved options. ``accepted_at`` is on the monotonic clock, in seconds; ``attempts``
    counts the attempts that began, this one included.

    A handler that implements ``handle_deliveries`` settles it with ``ok``, ``failed`` or ``unknown``: once,
    from any thread. A second settle, or one for an attempt that was given up in the meantime, is ignored.
    """

    payload: Any
    options: OptionsT
    policy: Policy
    headers: dict[str, Any]
    key: str | None
    accepted_at: float
    attempts: int

    @property
    def id(self) -> str:
        """The message's id: the one given, or 32 hexadecimal digits drawn when it is first looked at."""
        raise NotImplementedError

    @property
    def service(self) -> str:
        """The service of its target."""
        raise NotImplementedError

    @property
    def channel(self) -> str:
        """The channel of its target."""
        raise NotImplementedError

    @property
    def origin(self) -> Outcome | None:
        """How it ended at the target that it was published to; None unless it came as its fallback."""
        raise NotImplementedError

    @property
    def origin_error(self) -> str | None:
        """Why it ended there, as a string without secrets; None unless it came as a fallback."""
        raise NotImplementedError

    @property
    def alone(self) -> bool:
        """Whether it must not share a request.

        One that it shared had no answer (``UnknownOutcomeError``), or the backend was unavailable for it
        again, although others were delivered meanwhile (``UnavailableError``).
        """
        raise NotImplementedError

    @property
    def expires_at(self) -> float | None:
        """When it expires, on the monotonic clock in seconds; None for never."""
        policy = self.policy
        if policy.expires_s is None:
            return None
        return self.accepted_at + policy.expires_s + (policy.delay_s if policy.expires_when_due else 0.0)

    def body(self) -> bytes:
        """Return the bytes for the wire; raises ``SerializationError``. Encoded once, kept for retries."""
        raise NotImplementedError

    def ok(self, result: Any = None) -> None:
        """Settle as delivered."""
        raise NotImplementedError

    def failed(self, reason: str | BaseException = "failed", *, retryable: bool | None = None) -> None:
        """Settle as a failed attempt; ``retryable`` defaults to what the reason itself says."""
        raise NotImplementedError

    def unknown(self, reason: str | BaseException = "the connection was lost before the answer") -> None:
        """Settle as unknown: it was written and no answer came.

        An ``UnknownOutcomeError`` as the reason decides whether the connection is lost; a string, or any
        other exception, means that it is.
        """
        raise NotImplementedError


_SPILLED = -2


class LiveDelivery(Delivery[OptionsT], gc=False, eq=False):
    """A delivery with everything that the runtime keeps about it.

    The object represents one attempt: a retry travels as a renewed one, which is how a late settle of the
    first is distinguished from an answer to the second. It takes no part in garbage collection (a million may
    wait); the cycle with its receipt is cut when the receipt is settled.
    """

    target: _Target
    receipt: Receipt | None
    seq: int
    given_id: str | SharedId | None = None
    slot: int = 0
    calls: bool = False
    encoded: bytes | None = None
    holds_lane: bool = False
    failures: int = 0
    left: int = -1
    rounds: int = 0
    losses: int = 0
    history: History | None = None
    started_at: float = 0.0
    ended_at: float = 0.0
    status: Status | None = None
    result: Any = None
    error: BaseException | None = None
    fallback: Outcome | None = None
    session: _Connection | None = None
    stored: Stored | None = None

    @property
    def id(self) -> str:
        given = self.given_id
        return given if type(given) is str else self._first_look()

    def _first_look(self) -> str:
        if self.status is None and self.attempts:  # by its handler, which does so with every message
            self.target.expect_ids()
        return shared_or_new(self)

    @property
    def service(self) -> str:
        return self.target.service

    @property
    def channel(self) -> str:
        return self.target.channel

    @property
    def origin(self) -> Outcome | None:
        first = self._origin
        return None if first is None else first.outcome()

    @property
    def origin_error(self) -> str | None:
        first = self._origin
        return None if first is None else first.target.error_text(first.error)

    @property
    def _origin(self) -> LiveDelivery[OptionsT] | None:
        return None if self.history is None else self.history.origin

    @property
    def alone(self) -> bool:
        return self.history is not None and self.history.apart > 0

    @property
    def worker(self) -> int:
        """The number of the worker whose connection attempts it; 0 while there is none."""
        return 0 if self.session is None else self.session.worker

    def body(self) -> bytes:
        if self.encoded is None:
            self.encoded = self.target.encode(self)
        return self.encoded

    def ok(self, result: Any = None) -> None:
        if self.session is not None:
            self.session.settle_ok(self, result)

    def failed(self, reason: str | BaseException = "failed", *, retryable: bool | None = None) -> None:
        if self.session is None:
            return
        if retryable is None and isinstance(reason, BaseException):
            self.session.settle(self, reason)
        else:
            self.session.settle(self, Failed(reason, retryable))

    def unknown(self, reason: str | BaseException = "the connection was lost before the answer") -> None:
        if self.session is not None:
            error = reason if isinstance(reason, UnknownOutcomeError) else UnknownOutcomeError(str(reason))
            self.session.settle(self, error)

    def came_from(self, other: LiveDelivery) -> None:
        """Record that it is the fallback of another delivery, which ended elsewhere."""
        self.history = History(origin=other._origin or other)

    def store(self, stored: Stored) -> None:
        """Record its row in the outbox."""
        self.stored = stored

    def reread(self, payload: Any) -> None:
        """Take the payload as it is read back from the outbox, so that a restart changes nothing."""
        self.payload = payload

    def resume(self, *, attempts: int, failures: int, left: int, rounds: int, maybe_sent: bool) -> None:
        """Continue where an earlier process left it."""
        self.attempts, self.failures, self.left, self.rounds = attempts, failures, left, rounds
        if maybe_sent:
            self.past().maybe_sent = True

    def accept(self, seq: int, now: float) -> None:
        """Record its acceptance."""
        self.seq, self.accepted_at = seq, now

    def spill(self, now: float) -> None:
        """Record its acceptance without a number: it stays in the outbox for now."""
        self.seq, self.accepted_at = _SPILLED, now

    @property
    def admitted(self) -> bool:
        """Whether it has a number: it is, or was, in the mailbox."""
        return self.seq >= 0

    @property
    def spilled(self) -> bool:
        """Whether it was accepted to stay in the outbox."""
        return self.seq == _SPILLED

    def undo_attempt(self) -> None:
        """Take back an attempt that the handler never began."""
        self.attempts -= 1
        self.started_at = 0.0

    def pass_lane_to(self, other: LiveDelivery) -> None:
        """Let another delivery of the same key hold the lane."""
        self.holds_lane, other.holds_lane = False, True

    def answered(self, now: float) -> None:
        """Record when its attempt was answered."""
        self.ended_at = now

    def fail(self, error: BaseException) -> None:
        """Record a failed attempt."""
        if self.left < 0:
            self.left = self.policy.retries
        self.failures += 1
        self.status, self.error = "failed", error

    def exhaust(self) -> None:
        """Record that it ends as fatal unless ``on_fatal`` decides otherwise."""
        self.status = "fatal"

    def next_round(self) -> None:
        """Begin a full round of retries, granted by ``on_fatal``."""
        self.rounds += 1
        self.failures = 0

    def end(self, status: Status, error: BaseException | None, now: float) -> None:
        """Record an end other than ``ok``."""
        self.status, self.result, self.error, self.ended_at = status, None, error, now

    def release(self) -> None:
        """Drop what it needed until its end; this cuts the cycle with its receipt."""
        self.receipt = self.encoded = self.session = None

    def succeeded(self, result: Any) -> None:
        """Record what the handler returned."""
        self.result = result

    def handed_over(self, fallback: Outcome) -> None:
        """Record how it ended on the channel's fallback."""
        self.fallback = fallback

    @property
    def maybe_sent(self) -> bool:
        """Whether an attempt without an answer may have reached the backend."""
        return self.history is not None and self.history.maybe_sent

    def unanswered(self) -> None:
        """Record that its attempt may have reached the backend, and has no answer."""
        self.past().maybe_sent = True

    def refused(self, error: BaseException) -> None:
        """Record an attempt that the backend was unavailable for: no failure."""
        self.status, self.error = "failed", error

    def isolate(self, group: int) -> None:
        """Make it a suspect: one of ``group`` in flight together, of which one may be to blame."""
        self.losses = max(self.losses, 2)
        self.past().in_group(group)

    def clear_suspicion(self) -> None:
        """Forget its losses: the backend answered it, and the connection stayed."""
        self.losses = 0
        if self.history is not None:
            self.history.in_group(0)

    def unsent(self, error: BaseException) -> LiveDelivery[OptionsT]:
        """Return it for another try after a loss before the handler began with it."""
        again = self.renewed()
        again.error = error
        again.attempts -= 1
        return again

    def after_loss(self, error: BaseException, *, written: bool) -> LiveDelivery[OptionsT]:
        """Return it for another try after a lost connection; an attempt counts if it was ``written``."""
        again = self.renewed()
        again.error = error
        again.losses += 1
        if not written:
            again.attempts -= 1
        return again

    def after_failure(self, left: int) -> LiveDelivery[OptionsT]:
        """Return it for its next attempt, with that many retries left."""
        again = self.renewed()
        again.left = left
        return again

    def past(self) -> History:
        """Return its history, a new one when there is none."""
        if self.history is None:
            self.history = History()
        return self.history

    def renewed(self) -> LiveDelivery[OptionsT]:
        """Return the same delivery for its next attempt; this object is inert from now on."""
        self.id  # noqa: B018 - drawn now at the latest: both objects are the same message
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
