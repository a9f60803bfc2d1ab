"""The progress bar of a publish, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

__all__ = ["Now", "bar"]


class Now(NamedTuple):
    """Progress: bytes read, deliveries that ended, and those of them that did not end as ok."""

    position: int
    ended: int
    failed: int


def bar(
    console: Console, name: str, size: int | None, now: Callable[[], Now]
) -> AbstractContextManager[object]:
    """Return a context that shows a progress bar; on a stream that is no terminal it shows nothing."""
    if not console.is_terminal:
        return nullcontext()
    return _ProgressBar(console, name, size, now)


class _ProgressBar(Progress):
    """A progress bar that reads its figures when it is drawn, so that publishing does not wait for it."""

    def __init__(self, console: Console, name: str, size: int | None, now: Callable[[], Now]) -> None:
        shown = Column(no_wrap=True, overflow="ellipsis", max_width=24)
        begin: list[ProgressColumn] = [TextColumn("{task.description}", table_column=shown, markup=False)]
        middle = [BarColumn(None), TaskProgressColumn()] if size else [SpinnerColumn()]
        self._now = now  # the base class draws at once
        super().__init__(
            *begin,
            *middle,
            _Ended(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            # Output of handlers goes above the bar if both are on one terminal.
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=False,
            expand=True,
        )
        self.add_task(name, total=size, failed=0, ended=0)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Draw the current figures."""
        now = self._now()
        for task in self.tasks:
            self.update(task.id, completed=now.position, ended=now.ended, failed=now.failed)
        yield self.make_tasks_table(self.tasks)


class _Ended(ProgressColumn):
    """How many were delivered, how fast, and how many were not."""

    def render(self, task: Task) -> Text:
        """Return the figures; red ones only where there are any."""
        ended, failed = task.fields["ended"], task.fields["failed"]
        rate = ended / task.elapsed if task.elapsed else 0.0
        text = Text(f"{ended - failed:,} delivered {rate:,.0f}/s")
        return text.append(f" {failed:,} failed", "red") if failed else text
