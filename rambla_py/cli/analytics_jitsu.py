"""The command ``rambla analytics jitsu-function``: the tables of events, for a Jitsu server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rambla_py.cli.analytics_extra import analytics_module
from rambla_py.cli.loading import load
from rambla_py.cli.parameters import ConfigFile
from rambla_py.cli.terminal import show_text
from rambla_py.errors import ConfigError

if TYPE_CHECKING:
    from rambla_py.config import Config

__all__ = ["jitsu_function"]


def jitsu_function(
    ctx: typer.Context,
    config: ConfigFile = None,
    channel: Annotated[
        str, typer.Option(metavar="NAME", help="The tracker's channel, to which rules without one lead.")
    ] = "analytics",
) -> None:
    """Print the Jitsu function that puts events into their tables, in JavaScript.

    It is made from the rules of the configuration whose events reach a jitsu channel. Add it to the
    connection of the destination in Jitsu.
    """
    found = _loaded(ctx, config)
    settings = None if found is None else found.rambla.analytics
    channels = {channel} if found is None else _of_jitsu(found) or {channel}
    rules = [] if settings is None else settings.rules
    show_text(analytics_module("jitsu_function").jitsu_function(rules, channels=channels, tracker=channel))


def _loaded(ctx: typer.Context, config: Any) -> Config | None:
    """Return the configuration; None if none is named, and there is none."""
    try:
        return load(ctx, config)
    except ConfigError as error:
        nothing_found = [(one.path, one.got) for one in error.problems] == [("configuration", "none")]
        if config or ctx.obj or not nothing_found:
            raise
        return None


def _of_jitsu(config: Config) -> set[str]:
    return {one.channel for one in config.every_channel() if one.handler.__name__ == "JitsuHandler"}
