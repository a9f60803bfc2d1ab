"""The command ``rambla analytics report``: what happened lately, in the terminal or as a page."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from rambla_py._internal.durations import seconds_of
from rambla_py.cli import exit_codes
from rambla_py.cli.analytics_database import DEFAULT_URL, URL_VARIABLE, database_for_reading
from rambla_py.cli.analytics_extra import analytics_module, needs_extra
from rambla_py.cli.parameters import ConfigFile
from rambla_py.cli.terminal import show, show_text

__all__ = ["report"]


def report(
    ctx: typer.Context,
    since: Annotated[
        str, typer.Option(metavar="DURATION", help="How far back: 90s, 15m, 1h, 7d or 2w.")
    ] = "1h",
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help=f"The database: sqlite:///FILE, postgresql://...; else ${URL_VARIABLE}, the configuration, "
            f"or {DEFAULT_URL}.",
        ),
    ] = None,
    config: ConfigFile = None,
    channel: Annotated[
        str, typer.Option(metavar="NAME", help="The channel of the configuration that events go to.")
    ] = "analytics",
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page instead, one file without references; - is stdout."),
    ] = None,
) -> None:
    """Show requests, errors, payments, mail, outgoing calls and processes of the last hour.

    It only reads: SQLite, PostgreSQL, MySQL, MariaDB or ClickHouse. Exit code 1: the database cannot be read.
    """
    seconds = _seconds(since)
    if url is not None and config is not None:
        raise typer.BadParameter("give either --url or --config", param_hint="--url")
    with _opened(ctx, url, config, channel) as db:
        found = analytics_module("report.queries").read_report(db, since_s=seconds)
    if html is None:
        show(analytics_module("report.terminal").terminal_report(found))
    else:
        _write(html, _page(found))


def _seconds(since: str) -> float:
    try:
        return seconds_of(since)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None


def _page(found: Any) -> str:
    with needs_extra():  # the page's template and charts are imported when it is made
        page: str = analytics_module("report.page").render_page(found)
    return page


@contextmanager
def _opened(ctx: typer.Context, url: str | None, config: Path | None, channel: str) -> Iterator[Any]:
    """Give the database of the events; end the program if it is a file that does not exist."""
    db = database_for_reading(ctx, url, config, channel)
    dialect = None if hasattr(db, "rows") else db.database.dialect
    if dialect is not None and dialect.is_missing:
        _end(
            f"there is no file {dialect.url.database}: track an event first, or name the database by --url "
            "or --config"
        )
    try:
        yield db
    finally:
        db.disconnect()


def _write(path: Path, page: str) -> None:
    """Write the page at once, so that a reader never finds half of it."""
    if str(path) == "-":
        show_text(page)
        return
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            file.write(page)
        mask = os.umask(0)
        os.umask(mask)
        Path(file.name).chmod(0o666 & ~mask)
        Path(file.name).replace(path)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error.strerror}", param_hint="--html") from None
    print(f"wrote {path}", file=sys.stderr)


def _end(message: str) -> NoReturn:
    print(f"rambla: {message}", file=sys.stderr)
    raise typer.Exit(exit_codes.FAILED)
