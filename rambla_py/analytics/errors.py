"""The error of the analytics package."""

from __future__ import annotations

from rambla_py.errors import RamblaError

__all__ = ["AnalyticsError"]


class AnalyticsError(RamblaError):
    """An event, a tracker or its storage is not as it must be.

    ``field`` is the field of the event that is wrong, or None. Trackers raise it from a ``track_*`` method
    only with ``debug=True``.

    >>> error = AnalyticsError("expected a number >= 0; got -1.0", field="duration_ms")
    >>> str(error), error.field
    ('duration_ms: expected a number >= 0; got -1.0', 'duration_ms')
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
