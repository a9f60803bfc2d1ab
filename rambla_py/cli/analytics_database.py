"""The database of the events that a command of ``rambla analytics`` was given."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import typer

from rambla_py._internal.redaction import redact_url
from rambla_py.cli.loading import load
from rambla_py.config import Config
from rambla_py.errors import ConfigError, nearest

__all__ = ["DEFAULT_URL", "URL_VARIABLE", "database_arguments"]

DEFAULT_URL: Final = "sqlite:///analytics.db"
URL_VARIABLE: Final = "RAMBLA_ANALYTICS_URL"


def database_arguments(
    ctx: typer.Context, url: str | None, config: Path | None, channel: str
) -> dict[str, Any]:
    """Return what opens the database: as a tracker finds it, except that options of this command win."""
    named = config or ctx.obj
    given = url or (None if named else os.environ.get(URL_VARIABLE))
    if given:
        _check(given)
        return {"url": given}
    try:
        return _of_channel(load(ctx, config), channel)
    except ConfigError as error:
        nothing_found = [(one.path, one.got) for one in error.problems] == [("configuration", "none")]
        if named or not nothing_found:
            raise
        return {"url": DEFAULT_URL}


def _check(url: str) -> None:
    scheme = url.partition("://")[0].partition("+")[0].lower()
    if scheme in ("clickhouse", "jitsu", "http", "https", "console", "null") or "://" not in url:
        raise typer.BadParameter(
            f"{redact_url(url)} is no SQL database; expected sqlite:///FILE, postgresql://, mysql:// or "
            "mariadb://",
            param_hint=f"--url or ${URL_VARIABLE}",
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
