"""Retry, restart and rate policy as pure functions."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from rambla_py.errors import DeliveryError, ExpiredError, describe
from rambla_py.message import Failed, Retry, Stop
from rambla_py.outcome import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "RECONNECT",
    "Again",
    "Backoff",
    "Callbacks",
    "End",
    "Policy",
    "RateLimit",
    "after_failure",
    "backoff_delay",
    "is_retryable",
    "misused_answer",
    "restarts_exceeded",
    "worker_of",
]

_MASK64 = (1 << 64) - 1


class Backoff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Exponential back-off with full jitter; times in seconds."""

    initial_s: float = 0.5
    multiplier: float = 2.0
    max_s: float = 60.0


RECONNECT = Backoff(initial_s=0.1, multiplier=2.0, max_s=3.0)


class Callbacks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Functions that replace the handler's methods of the same name."""

    on_success: Any = None
    on_failure: Any = None
    on_fatal: Any = None
    on_outcome: Any = None

    def __bool__(self) -> bool:
        return any(getattr(self, name) is not None for name in self.__struct_fields__)


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reserved options that every handler knows, merged for one target or one message."""

    retries: int = 5
    backoff: Backoff = Backoff()
    delay_s: float = 0.0
    expires_s: float | None = None
    priority: Literal["normal", "high"] = "normal"
    callbacks: Callbacks = Callbacks()
    format: Literal["none", "object", "bytes"] = "none"
    serializer: str = "json"
    nan: Literal["error", "null"] = "error"
    event_source: str | None = None
    event_type: str | None = None
    event_subject: str | None = None
    event_schema: str | None = None
    event_content_type: str | None = None
    event_extensions: tuple[tuple[str, Any], ...] = ()
    expires_when_due: bool = False
    """Whether ``expires_s`` counts from the due time: the default of a channel with a fallback."""


class Again(msgspec.Struct, frozen=True):
    """The delivery is tried again after ``delay_s`` seconds, with ``left`` retries left after that one."""

    delay_s: float
    left: int


class End(msgspec.Struct, frozen=True):
    """The delivery ends with this status and error."""

    status: Status
    error: BaseException


def backoff_delay(backoff: Backoff, failures: int, uniform: float) -> float:
    """Return the wait in seconds after the given number of failures; ``uniform`` is drawn from [0, 1].

    >>> backoff_delay(Backoff(initial_s=1.0), failures=3, uniform=1.0)
    4.0
    """
    try:
        ceiling = backoff.initial_s * backoff.multiplier ** max(0, failures - 1)
    except OverflowError:
        ceiling = backoff.max_s
    return min(backoff.max_s, ceiling) * uniform


def is_retryable(error: BaseException) -> bool:
    """Return whether another attempt may help: our errors declare it, third-party ones are retried."""
    return error.retryable if isinstance(error, DeliveryError) else True


def misused_answer(answer: Any) -> str | None:
    """Return what is wrong with an answer that means a failure and cannot be one; None for any other.

    >>> misused_answer(Failed)
    "the class Failed was returned; return Failed('reason') or raise an error"
    >>> misused_answer({"id": 42})
    """
    if isinstance(answer, type):
        if issubclass(answer, Failed | BaseException | Retry | Stop):
            example = "Failed('reason')" if issubclass(answer, Failed) else "an instance of it"
            return f"the class {answer.__name__} was returned; return {example} or raise an error"
        return None
    if isinstance(answer, Retry | Stop):
        name = "RETRY" if isinstance(answer, Retry) else "STOP"
        return f"{name} was returned, which only callbacks may answer; return Failed('reason') instead"
    return None


def after_failure(
    error: BaseException,
    *,
    retryable: bool,
    verdict: Retry | Stop | None,
    policy: Policy,
    attempts: int,
    failures: int,
    left: int,
    time_left_s: float | None,
    uniform: float,
) -> Again | End:
    """Decide what follows a failed attempt.

    ``verdict`` is what ``on_failure`` answered; ``failures`` counts those of this round, ``left`` the
    retries not yet used, ``time_left_s`` the seconds until the delivery expires (None: never).

    >>> after_failure(ValueError(), retryable=True, verdict=None, policy=Policy(), attempts=1, failures=1,
    ...               left=0, time_left_s=None, uniform=0.5).status
    'fatal'
    """
    if isinstance(verdict, Stop):
        return End("failed", error)
    if isinstance(verdict, Retry):
        left = left if verdict.retries is None else verdict.retries
    elif not retryable:
        return End("fatal", error)
    if left <= 0:
        return End("fatal", error)
    delay_s = verdict.delay_s if verdict is not None else None
    if delay_s is None:
        delay_s = getattr(error, "retry_after_s", None)
    if delay_s is None:
        delay_s = backoff_delay(policy.backoff, failures, uniform)
    if time_left_s is not None and delay_s >= time_left_s:
        expired = ExpiredError(policy.expires_s or 0.0, attempts, describe(error))
        expired.__cause__ = error
        return End("expired", expired)
    return Again(delay_s, left - 1)


def restarts_exceeded(
    restarts: Sequence[float], now: float, *, max_restarts: int, max_seconds: float
) -> bool:
    """Return whether more than ``max_restarts`` of these times lie within the last ``max_seconds``.

    >>> restarts_exceeded([1.0, 2.0, 3.0], 3.0, max_restarts=2, max_seconds=10.0)
    True
    """
    return sum(1 for at in restarts if now - at <= max_seconds) > max_restarts


def worker_of(key: str, workers: int) -> int:
    """Return the worker of a key: the same in every process, and most keys stay when a worker is added.

    Jump consistent hashing (Lamping and Veach, 2014) over the CRC of the key.

    >>> worker_of("customer-7", 1)
    0
    """
    state = zlib.crc32(key.encode()) * 0x9E3779B97F4A7C15 & _MASK64
    chosen, jump = -1, 0
    while jump < workers:
        chosen = jump
        state = (state * 2862933555777941757 + 1) & _MASK64
        jump = int((chosen + 1) * ((1 << 31) / ((state >> 33) + 1)))
    return chosen


class RateLimit:
    """A token bucket of ``per_s`` attempts a second with a burst of one second; not thread-safe by itself."""

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s
        self._burst = max(1.0, per_s)
        self._tokens = self._burst
        self._at: float | None = None

    def grant(self, wanted: int, now: float) -> int:
        """Take up to ``wanted`` tokens; return how many were there.

        >>> RateLimit(2.0).grant(5, now=0.0)
        2
        """
        self._refill(now)
        granted = min(wanted, int(self._tokens))
        self._tokens -= granted
        return granted

    def give_back(self, unused: int) -> None:
        """Return tokens that were not needed."""
        self._tokens = min(self._burst, self._tokens + unused)

    def wait_s(self, now: float) -> float | None:
        """Return the seconds until there is a token; None when there is one."""
        self._refill(now)
        return None if self._tokens >= 1 else (1 - self._tokens) / self.per_s

    def _refill(self, now: float) -> None:
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self.per_s)
        self._at = now if self._at is None else max(now, self._at)
