"""Times of events, as text in UTC with milliseconds."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

__all__ = ["EventClock", "time_text"]


_MILLISECONDS = [f".{number:03d}Z" for number in range(1_000)]


class EventClock:
    """Writes the current time; the part up to the second is made once a second.

    >>> EventClock(lambda: 1705314600.25).now()
    '2024-01-15T10:30:00.250Z'
    """

    __slots__ = ("_epoch", "_second")

    def __init__(self, epoch: Any = time.time) -> None:
        self._epoch = epoch
        self._second: tuple[int, str] = (-1, "")

    def now(self) -> str:
        """Return the current time."""
        at = self._epoch()
        second = int(at)
        number, text = self._second
        if number != second:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second, text  # one assignment: other threads see both or neither
        return text + _MILLISECONDS[int((at - second) * 1000)]


def time_text(value: Any) -> str | None:
    """Return a time as events have it; None if it is neither a ``datetime`` nor one in ISO form.

    A time without a zone is in UTC.

    >>> time_text("2024-01-15T11:30:00+01:00")
    '2024-01-15T10:30:00.000Z'
    """
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
    return f"{found:%Y-%m-%dT%H:%M:%S}.{found.microsecond // 1000:03d}Z" if found.year >= 1000 else None
