"""What an app reports about itself: status, accounts, pings."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Audit", "FailureGroup", "Health", "HistogramStatus", "Ping", "TargetStatus"]


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


class HistogramStatus(msgspec.Struct, frozen=True):
    """How often something took how long: ``counts[i]`` durations of at most ``bounds_s[i]`` seconds.

    Each duration is counted once; the last count is of those longer than every bound.
    """

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.counts)

    def __repr__(self) -> str:
        """Show the number and the mean, and no buckets: ``print(app.status())`` has three for each target.

        >>> HistogramStatus((0.1, 1.0), (1, 1, 0), 0.5)
        HistogramStatus(count=2, mean_s=0.25)
        >>> HistogramStatus((0.1, 1.0), (0, 0, 0), 0.0)
        HistogramStatus(count=0)
        """
        count = self.count
        return f"HistogramStatus(count={count}{f', mean_s={self.sum_s / count:.3g}' if count else ''})"


class TargetStatus(msgspec.Struct, frozen=True):
    """One target as it is now.

    ``state``: ``disabled``, ``idle`` (not started), ``connecting``, ``up``, ``blocked``, ``down``,
    ``closing`` or ``closed``, and ``since`` when. ``workers``: the state of each. ``queued`` (of at most
    ``max_pending``) and ``in_flight`` count deliveries, ``oldest_s`` is the age of the oldest that waits;
    ``in_outbox`` counts durable ones that are on the disk only, ``dead_waiting`` fatal ones whose dead letter
    is not stored yet: they have no outcome.
    ``accepted`` counts the deliveries accepted, ``statuses`` those that ended, by status, and ``reasons``
    why, with failed attempts, losses and callbacks that raised; ``refused`` counts publishes that raised
    ``MailboxFullError``, ``batches`` calls of the handler, ``restarts`` workers and external servers that
    died and were replaced, ``abandoned`` threads that are stuck in user code.
    ``times`` has a histogram of ``delivery`` (acceptance to success), ``queue`` (acceptance to the start of
    the attempt that succeeded) and ``attempt``; it is empty with ``[rambla.telemetry] metrics = false``.
    ``why`` is the reason for a state that is not ``up``.
    ``endpoint`` is where the connection leads, without secrets. ``last_error``, of the class
    ``last_error_type``, is redacted and stays after a recovery. Points in time are seconds since the epoch,
    ages and durations seconds; None where there is none yet.
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
    max_pending: int = 0
    in_outbox: int = 0
    refused: int = 0
    oldest_s: float | None = None
    since: float = 0.0
    last_ok_at: float | None = None
    last_error_at: float | None = None
    last_error_type: str | None = None
    why: str | None = None
    endpoint: str | None = None
    lost_connections: int = 0
    restarts: int = 0
    batches: int = 0
    times: dict[str, HistogramStatus] = {}
    on_unknown: str = "retry"
    guarantee: str | None = None
    accepted: int = 0
    dead_waiting: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as built-in types that ``json.dumps`` takes."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data


class FailureGroup(msgspec.Struct, frozen=True):
    """Deliveries of one target that ended for the same kind of error, with another status than ``ok``.

    ``error`` is the class of the error, ``sample`` the redacted text of the last one; ``ids`` are those of
    the last messages, at most 20, the newest first. Times are seconds since the epoch.
    """

    service: str
    channel: str
    status: str
    error: str
    sample: str
    count: int
    first_at: float
    last_at: float
    ids: list[str]


class Ping(msgspec.Struct, frozen=True):
    """Whether a target's server answers, on a connection made for this call; ``error`` is redacted."""

    service: str
    channel: str
    ok: bool
    took_s: float
    error: str | None = None
    exception: Any = None


class Health(msgspec.Struct, frozen=True):
    """Whether a process works (``live``) and takes messages (``ready``); ``reasons`` why not, redacted.

    >>> Health(live=True, ready=False, reasons=["the app is not started"]).ready
    False
    """

    live: bool
    ready: bool
    reasons: list[str] = []
