"""The command ``rambla analytics report``: what happened lately, in the terminal or as a page."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from rambla_py._internal.durations import seconds_of
from rambla_py._internal.redaction import redact_url
from rambla_py.cli import exit_codes
from rambla_py.cli.loading import load
from rambla_py.cli.parameters import ConfigFile
from rambla_py.cli.terminal import show, show_text
from rambla_py.config import Config
from rambla_py.errors import ConfigError, HandlerError, nearest

if TYPE_CHECKING:
    from rambla_py.sql import SqlBackend

__all__ = ["report"]

_DEFAULT_URL: Final = "sqlite:///analytics.db"
_URL: Final = "RAMBLA_ANALYTICS_URL"


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
            help=f"The database: sqlite:///FILE, postgresql://...; else ${_URL}, the configuration, or "
            f"{_DEFAULT_URL}.",
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

    It only reads, from SQLite, PostgreSQL, MySQL or MariaDB. Exit code 1 if the database cannot be read.
    """
    seconds = _seconds(since)
    if url is not None and config is not None:
        raise typer.BadParameter("give either --url or --config", param_hint="--url")
    with _opened(ctx, url, config, channel) as db:
        found = _part("queries").read_report(db, since_s=seconds)
    if html is None:
        show(_part("terminal").terminal_report(found))
    else:
        _write(html, _page(found))


def _seconds(since: str) -> float:
    try:
        return seconds_of(since)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None


def _part(name: str) -> Any:
    """Import a module of the report, which needs the extra."""
    try:
        return importlib.import_module(f"rambla_py.analytics.report.{name}")
    except ImportError as error:
        raise _without_extra(error) from error


def _page(found: Any) -> str:
    try:
        page: str = _part("page").render_page(found)
    except ImportError as error:
        raise _without_extra(error) from error
    return page


def _without_extra(error: ImportError) -> HandlerError:
    hint = "needs the extra 'analytics'; install it with: pip install 'rambla-py[analytics]'"
    return HandlerError("analytics report", f"{hint} ({error})")


@contextmanager
def _opened(ctx: typer.Context, url: str | None, config: Path | None, channel: str) -> Iterator[SqlBackend]:
    """Give the database of the events; end the program if it is a file that does not exist."""
    source = _part("source")
    db: SqlBackend = source.open_database(**_arguments(ctx, url, config, channel))
    dialect = db.database.dialect
    if dialect.is_missing:
        _end(
            f"there is no file {dialect.url.database}: track an event first, or name the database by --url "
            "or --config"
        )
    try:
        yield db
    finally:
        db.disconnect()


def _arguments(ctx: typer.Context, url: str | None, config: Path | None, channel: str) -> dict[str, Any]:
    """Return what opens the database: as a tracker finds it, except that options of this command win."""
    named = config or ctx.obj
    given = url or (None if named else os.environ.get(_URL))
    if given:
        _check(given)
        return {"url": given}
    try:
        return _of_channel(load(ctx, config), channel)
    except ConfigError as error:
        nothing_found = [(one.path, one.got) for one in error.problems] == [("configuration", "none")]
        if named or not nothing_found:
            raise
        return {"url": _DEFAULT_URL}


def _check(url: str) -> None:
    scheme = url.partition("://")[0].partition("+")[0].lower()
    if scheme in ("clickhouse", "jitsu", "http", "https", "console", "null") or "://" not in url:
        raise typer.BadParameter(
            f"{redact_url(url)} is no SQL database; expected sqlite:///FILE, postgresql://, mysql:// or "
            "mariadb://",
            param_hint=f"--url or ${_URL}",
        )


def _of_channel(config: Config, name: str) -> dict[str, Any]:
    channels = [
        channel
        for service in config.services.values()
        for channel in service.channels.values()
        if hasattr(channel.handler, "backend_arguments")
    ]
    for channel in channels:
        if name in (channel.channel, channel.name):
            found: dict[str, Any] = channel.handler.backend_arguments(channel.settings)  # type: ignore[attr-defined]
            return found
    known = [channel.name for channel in channels]
    close = nearest(name, [channel.channel for channel in channels])
    hint = f"did you mean {close!r}?" if close else f"SQL channels are {', '.join(known) or 'none'}"
    raise typer.BadParameter(f"the configuration has no SQL channel {name!r}; {hint}", param_hint="--channel")


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
