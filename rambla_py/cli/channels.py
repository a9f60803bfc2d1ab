"""The command ``rambla channels``."""

from __future__ import annotations

import re
from typing import Any

import typer

from rambla_py.cli.loading import load
from rambla_py.cli.parameters import AsJson, ConfigFile
from rambla_py.cli.terminal import show, show_json, table
from rambla_py.config import ChannelConfig, Config

__all__ = ["app", "rows", "short"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def channels(ctx: typer.Context, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the channels: service, handler, connection, workers, and what is guaranteed.

    A channel of several services has a line for each; its messages go to all of them. A disabled one shows
    'off' for its workers. The guarantee is shortened; --json and 'rambla plan' show all of it.
    """
    found = rows(load(ctx, config))
    if as_json:
        show_json(found)
        return
    names = ("channel", "service", "handler", "connection", "workers", "guarantee")
    show(table(names, [_cells(row) for row in found], numbers=("workers",)))


def rows(config: Config) -> list[dict[str, Any]]:
    """Return a row for each target, channels in config order, with their services together."""
    targets = config.every_channel()
    order = list(dict.fromkeys(target.channel for target in targets))
    return [_row(target, config) for target in sorted(targets, key=lambda one: order.index(one.channel))]


def short(guarantee: str) -> str:
    """Return the first words of a guarantee.

    >>> short("at least once; a line may stand twice"), short("none: every attempt gets an answer")
    ('at least once', 'none')
    """
    return re.split(r"[;:,(]", guarantee, maxsplit=1)[0].strip()


def _row(target: ChannelConfig, config: Config) -> dict[str, Any]:
    return {
        "channel": target.channel,
        "service": target.service,
        "handler": target.handler.__name__,
        "connection": target.connection,
        "workers": target.count,
        "guarantee": target.handler.guarantee,
        "enabled": target.enabled and config.rambla.enabled,
    }


def _cells(row: dict[str, Any]) -> list[str]:
    workers = f"{row['workers']:,}" if row["enabled"] else "off"
    names = [row[name] for name in ("channel", "service", "handler", "connection")]
    return [*names, workers, short(row["guarantee"])]
