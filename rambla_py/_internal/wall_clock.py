"""The time of day of a moment on the monotonic clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime

__all__ = ["time_of_day"]

_LOOSE_S = 2.0


def time_of_day(monotonic_s: float) -> datetime:
    """Return when a moment was, in UTC: the same whenever it is asked, as far as the clock was not set.

    >>> abs((time_of_day(time.monotonic()) - datetime.now(UTC)).total_seconds()) < 3
    True
    """
    return datetime.fromtimestamp(_clock.epoch_of(monotonic_s), UTC)


class _Clock:
    """Adds an offset that changes only when it is far off.

    If the clock were read for each attempt, a retry could end up in the folder of another day, and one event
    would carry two times.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def epoch_of(self, monotonic_s: float) -> float:
        offset = time.time() - time.monotonic()
        if abs(offset - self._offset) > _LOOSE_S:
            self._offset = offset
        return self._offset + monotonic_s


_clock = _Clock()
