"""This module is what an app tells about itself: status, accounts, pings."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Audit", "Ping", "TargetStatus"]


class Audit(msgspec.Struct, frozen=True):
    """The accounts of one target: ``accepted`` is the sum of the others, once nothing moves."""

    accepted: int
    ok: int
    failed: int
    fatal: int
    dropped: int
    expired: int
    unknown: int
    pending: int

    @property
    def balanced(self) -> bool:
        """Whether every accepted delivery is accounted for.

        >>> Audit(3, ok=2, failed=0, fatal=0, dropped=0, expired=0, unknown=0, pending=1).balanced
        True
        """
        ended = self.ok + self.failed + self.fatal + self.dropped + self.expired + self.unknown
        return self.accepted == ended + self.pending


class TargetStatus(msgspec.Struct, frozen=True):
    """One target as it is now.

    ``state``: ``idle`` (not started), ``up``, ``connecting``, ``blocked``, ``down``, ``disabled``.
    ``workers``: the state of each. ``queued`` and ``in_flight`` count deliveries; ``statuses`` those that
    ended, by status, and ``reasons`` why, with failed attempts, losses and callbacks that raised.
    ``abandoned`` counts threads that hang in user code. ``last_error`` is redacted.
    """

    service: str
    channel: str
    handler: str
    state: str
    workers: list[str]
    queued: int
    in_flight: int
    statuses: dict[str, int]
    reasons: dict[str, int]
    abandoned: int = 0
    last_error: str | None = None


class Ping(msgspec.Struct, frozen=True):
    """Whether a target's server answers: connected, pinged and closed anew; ``error`` is redacted."""

    service: str
    channel: str
    ok: bool
    took_s: float
    error: str | None = None
    exception: Any = None
