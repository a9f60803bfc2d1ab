"""Watch over the length of a journal's write-ahead log."""

from __future__ import annotations

import logging
import math

from rambla_py.outbox.journal import Journal

__all__ = ["LogWatch"]

log = logging.getLogger("rambla_py.outbox")

_LIMIT = 64 << 20
_LONG_S = 60.0


class LogWatch:
    """Logs a warning when the log stays long: a reader keeps it from being reused."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._long_since: float | None = None

    def look(self, now: float) -> None:
        """Look at its size; ``now`` is on the monotonic clock."""
        if self._journal.log_bytes() <= _LIMIT:
            self._long_since = None
            return
        if self._long_since is None:
            self._long_since = now
        elif now - self._long_since >= _LONG_S:
            self._long_since = math.inf  # once, until it is short again
            log.warning(
                "outbox %s: its log is over %d MiB for a minute: a program keeps a read transaction open",
                self._journal.name,
                _LIMIT >> 20,
            )
