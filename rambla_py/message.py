"""Messages, and the answers of handlers and callbacks."""

from __future__ import annotations

from typing import Any, Final

import msgspec

__all__ = ["RETRY", "STOP", "Failed", "Message", "Ok", "Retry", "Stop"]


class Message:
    """A payload with options of its own, for ``publish``.

    ``options`` are the same names that ``publish`` takes as keywords (``id``, ``key``, ``headers``,
    ``routing_key`` ...); keywords of the call win over them.

    >>> Message({"id": 42}, key="customer-7", routing_key="paid").options["key"]
    'customer-7'
    """

    __slots__ = ("options", "payload")

    def __init__(self, payload: Any, /, **options: Any) -> None:
        self.payload = payload
        self.options = options

    def __repr__(self) -> str:
        return f"Message({type(self.payload).__name__}, options={sorted(self.options)})"


class Ok(msgspec.Struct, frozen=True):
    """Success with a result; what a handler returns when a bare value could be taken for something else."""

    result: Any = None


class Failed(msgspec.Struct, frozen=True):
    """A failed attempt, returned instead of raised.

    ``reason`` is a string or an exception; with ``retryable=False`` the delivery is fatal at once. Without
    ``retryable`` the reason decides: a ``PermanentError`` is fatal at once, a string is retried.
    """

    reason: str | BaseException = "failed"
    retryable: bool | None = None


class Retry(msgspec.Struct, frozen=True):
    """What ``on_failure`` answers to retry: after ``delay_s`` seconds, with ``retries`` left from now.

    None leaves the one or the other to the policy.
    """

    delay_s: float | None = None
    retries: int | None = None


class Stop(msgspec.Struct, frozen=True):
    """What ``on_failure`` answers to end the delivery as ``failed``."""


RETRY: Final = Retry()
"""Retry while any are left, even after an error that is not retryable; from ``on_fatal``: a round more."""

STOP: Final = Stop()
"""End the delivery here, with status ``failed``."""
