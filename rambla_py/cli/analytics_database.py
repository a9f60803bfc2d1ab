"""The database of the events that a command of ``rambla analytics`` was given."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import typer

from rambla_py._internal.redaction import redact_url
from rambla_py.cli.analytics_extra import analytics_module
from rambla_py.cli.loading import load
from rambla_py.config import Config
from rambla_py.config.schema import ChannelConfig
from rambla_py.errors import ConfigError, nearest

__all__ = ["DEFAULT_URL", "URL_VARIABLE", "database_arguments", "database_for_reading"]

DEFAULT_URL: Final = "sqlite:///analytics.db"
URL_VARIABLE: Final = "RAMBLA_ANALYTICS_URL"

_SQL: Final = "SQL database; expected sqlite:///FILE, postgresql://, mysql:// or mariadb://"
_READ: Final = "database; expected sqlite:///FILE, postgresql://, mysql://, mariadb:// or clickhouse://"


def database_arguments(
    ctx: typer.Context, url: str | None, config: Path | None, channel: str
) -> dict[str, Any]:
    """Return what opens the SQL database: as a tracker finds it, except that options of this command win."""
    found = _found(ctx, url, config)
    if isinstance(found, str):
        _check(found, _SQL)
        return {"url": found}
    target = _target(found, channel, "SQL", ("backend_arguments",))
    arguments: dict[str, Any] = target.handler.backend_arguments(target.settings)  # type: ignore[attr-defined]
    return arguments


def database_for_reading(ctx: typer.Context, url: str | None, config: Path | None, channel: str) -> Any:
    """Return the database, found in the same way, as ``rambla_py.analytics.report`` reads it."""
    found = _found(ctx, url, config)
    opening = analytics_module("report.opening")
    if isinstance(found, str):
        _check(found, _READ)
        return opening.open_database(found)
    target = _target(found, channel, "SQL or ClickHouse", ("backend_arguments", "reader"))
    handler: Any = target.handler
    if hasattr(handler, "reader"):
        return handler.reader(target.settings)
    return opening.open_database(**handler.backend_arguments(target.settings))


def _found(ctx: typer.Context, url: str | None, config: Path | None) -> str | Config:
    """Return the URL, or the configuration, that names the database."""
    named = config or ctx.obj
    given = url or (None if named else os.environ.get(URL_VARIABLE))
    if given:
        return given
    try:
        return load(ctx, config)
    except ConfigError as error:
        nothing_found = [(one.path, one.got) for one in error.problems] == [("configuration", "none")]
        if named or not nothing_found:
            raise
        return DEFAULT_URL


def _check(url: str, kinds: str) -> None:
    scheme = url.partition("://")[0].partition("+")[0].lower()
    others = ("jitsu", "http", "https", "console", "null") + (() if kinds == _READ else ("clickhouse",))
    if scheme in others or "://" not in url:
        raise typer.BadParameter(f"{redact_url(url)} is no {kinds}", param_hint=f"--url or ${URL_VARIABLE}")


def _target(config: Config, name: str, kinds: str, methods: tuple[str, ...]) -> ChannelConfig:
    """Return the channel of the configuration, of a handler that has one of the methods."""
    channels = [
        channel
        for channel in config.every_channel()
        if any(hasattr(channel.handler, method) for method in methods)
    ]
    for channel in channels:
        if name in (channel.channel, channel.name):
            return channel
    known = ", ".join(channel.name for channel in channels) or "none"
    close = nearest(name, [channel.channel for channel in channels])
    hint = f"did you mean {close!r}?" if close else f"{kinds} channels are {known}"
    raise typer.BadParameter(
        f"the configuration has no {kinds} channel {name!r}; {hint}", param_hint="--channel"
    )
