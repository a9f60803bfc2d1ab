"""A clock that a test sets."""

from __future__ import annotations

__all__ = ["FakeClock"]


class FakeClock:
    """A monotonic clock that moves only when a test moves it; for code that takes ``now``, or a clock.

    Calling it returns the time in seconds, as ``time.monotonic()`` does; ``now`` is the same. Not
    thread-safe.

    >>> from rambla_py.policy import RateLimit
    >>> clock, limit = FakeClock(), RateLimit(per_s=2.0)
    >>> limit.grant(5, clock.now), limit.grant(5, clock.now)
    (2, 0)
    >>> limit.grant(5, clock.advance(0.5))
    1
    """

    __slots__ = ("_now",)

    def __init__(self, now: float = 1_000.0) -> None:
        self._now = float(now)

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self._now

    def __repr__(self) -> str:
        return f"FakeClock({self._now:g})"

    @property
    def now(self) -> float:
        """The time in seconds."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Let time pass, and return the new time; raises ``ValueError`` for a step backwards."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock does not go back, and {seconds:g} was asked for")
        self._now += seconds
        return self._now
