"""Options that several commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from rambla_py.cli import exit_codes

__all__ = ["LOG_FORMAT", "AsJson", "ConfigFile", "Yes", "ask_before", "no_file"]

LOG_FORMAT: Final = "rambla_py.log_format"
"""The key of ``--log-format`` in ``ctx.meta``, which all commands of a call share."""

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The configuration; else $RAMBLA_CONFIG, rambla.toml, config/rambla.toml or pyproject.toml.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def no_file(channel: str | None) -> str | None:
    """Return the name of a channel; raises ``typer.BadParameter`` for that of a configuration file."""
    if channel is not None and channel.endswith(".toml") and Path(channel).is_file():
        raise typer.BadParameter(f"{channel!r} is a file, not a channel; pass it with --config {channel}")
    return channel


def ask_before(what: str, *, yes: bool) -> None:
    """Ask for confirmation on a terminal; without a terminal, ``--yes`` is required."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"to {what} needs --yes without a terminal", param_hint="'--yes'")
    if not typer.confirm(f"{what[0].upper()}{what[1:]}?", err=True):
        typer.echo("Nothing was done.", err=True)
        raise typer.Exit(exit_codes.FAILED)
