"""Outcomes: how deliveries ended."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = ["STATUSES", "Outcome", "Status"]

Status = Literal["ok", "failed", "fatal", "dropped", "expired", "unknown"]
STATUSES: tuple[Status, ...] = ("ok", "failed", "fatal", "dropped", "expired", "unknown")


class Outcome(msgspec.Struct, frozen=True):
    """How one delivery ended, or how one attempt went when a callback is asked about it.

    ``status`` is ``ok``; ``failed`` (a callback said STOP); ``fatal``; ``dropped``; ``expired``; or
    ``unknown`` (the connection went after the write and before the answer). ``attempts`` counts the
    attempts made; ``queued_s`` is the time in seconds from ``publish`` to the last attempt, ``took_s``
    that of the last attempt. ``payload`` is what was published, and is left out of ``repr``.
    """

    channel: str
    service: str
    status: Status
    result: Any = None
    error: BaseException | None = None
    attempts: int = 0
    message_id: str = ""
    fallback: Outcome | None = None
    queued_s: float = 0.0
    took_s: float = 0.0
    payload: Any = None

    @property
    def succeeded(self) -> bool:
        """Whether this delivery, or the last of its fallback chain, ended as ok.

        >>> Outcome("orders", "amqp", "ok").succeeded
        True
        """
        return self.final.status == "ok"

    @property
    def final(self) -> Outcome:
        """The outcome at the end of the fallback chain; this one where there is none."""
        last = self
        while last.fallback is not None:
            last = last.fallback
        return last

    def __repr__(self) -> str:
        tail = f", error={self.error!r}" if self.error is not None else ""
        return (
            f"Outcome({self.service}.{self.channel} {self.status}, attempts={self.attempts}, "
            f"message_id={self.message_id!r}{tail})"
        )
