"""Log lines of the running app on the terminal, rate-limited."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console

__all__ = ["shown_on"]

OF_A_KIND: Final = 3


@contextmanager
def shown_on(console: Console, *, everything: bool = False) -> Iterator[None]:
    """Show warnings and errors on a console; the first three of a kind, or ``everything``."""
    log = logging.getLogger("rambla_py")
    handler = _Shown(console, everything)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


class _Shown(logging.Handler):
    def __init__(self, console: Console, everything: bool) -> None:
        super().__init__(logging.WARNING)
        self._console, self._everything = console, everything
        self._seen: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        if not self._everything and getattr(record, "rambla_status", "failed") != "failed":
            return  # how a delivery ended is in the report
        # The format string identifies the kind: records of one kind differ in their arguments only.
        kind = str(record.msg)
        self._seen[kind] += 1
        if not self._everything and self._seen[kind] > OF_A_KIND:
            return
        text = self.format(record) if self._everything else record.getMessage()
        more = "" if self._everything or self._seen[kind] < OF_A_KIND else " (more like it: --verbose)"
        self._console.print(f"{record.levelname.lower()}: {text}{more}", soft_wrap=True)
