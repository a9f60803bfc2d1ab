"""Log lines of the running app on the terminal, rate-limited."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import typer
from rich.console import Console

from rambla_py.cli.parameters import LOG_FORMAT
from rambla_py.telemetry.logs import JsonFormatter

__all__ = ["shown_on"]

OF_A_KIND: Final = 3


@contextmanager
def shown_on(
    ctx: typer.Context, console: Console, *, everything: bool = False, secrets: Iterable[str] = ()
) -> Iterator[None]:
    """Show warnings and errors on a console; the first three of a kind, or ``everything``.

    With ``--log-format json`` each is a line of JSON, with ``secrets`` masked, and none is left out.
    """
    log = logging.getLogger("rambla_py")
    as_json = ctx.meta.get(LOG_FORMAT) == "json"
    handler = _Lines(console, secrets) if as_json else _Shown(console, everything)
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


class _Lines(logging.Handler):
    def __init__(self, console: Console, secrets: Iterable[str]) -> None:
        super().__init__(logging.WARNING)
        self._console = console
        self.setFormatter(JsonFormatter(secrets=secrets))

    def emit(self, record: logging.LogRecord) -> None:
        self._console.out(self.format(record), highlight=False)
