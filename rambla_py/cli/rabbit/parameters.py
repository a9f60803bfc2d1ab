"""This module holds the options that the commands of ``rambla rabbit`` share."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from rambla_py.cli import exits
from rambla_py.cli.option_values import read_options

__all__ = [
    "Arguments",
    "AutoDelete",
    "Connection",
    "Durable",
    "RoutingKey",
    "Service",
    "Timeout",
    "Url",
    "Yes",
    "arguments_of",
    "ask_before",
    "usable_name",
]

Service = Annotated[
    str | None, typer.Option(metavar="NAME", help="The amqp service; needed when there are several.")
]
Connection = Annotated[
    str | None, typer.Option(metavar="NAME", help="Its connection; needed when there are several.")
]
Url = Annotated[
    str | None, typer.Option(metavar="URL", help="The broker's amqp:// URL, in place of a configuration.")
]
Timeout = Annotated[
    float, typer.Option(metavar="SECONDS", min=0, help="How long the broker may take to answer.")
]
Arguments = Annotated[
    list[str] | None,
    typer.Option(
        "--argument", metavar="NAME=VALUE", help="An argument, as x-max-length=1000; may be given again."
    ),
]
Durable = Annotated[bool, typer.Option("--durable/--transient", help="Whether it outlives the broker.")]
AutoDelete = Annotated[bool, typer.Option("--auto-delete", help="Delete it after its last user has gone.")]
RoutingKey = Annotated[str, typer.Option(metavar="KEY", help="Which messages: a routing key, or a pattern.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before something is destroyed.")]


def arguments_of(given: Iterable[str] | None) -> dict[str, Any]:
    """Return the arguments by name; what is not of the form name=value is wrong usage."""
    try:
        return read_options(given or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--argument'") from None


def ask_before(what: str, *, yes: bool) -> None:
    """Ask on a terminal whether to go on; where nobody can be asked, ``--yes`` must have been given."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"to {what} needs --yes where nobody can be asked", param_hint="'--yes'")
    if not typer.confirm(f"{what[0].upper()}{what[1:]}?", err=True):
        typer.echo("Nothing was done.", err=True)
        raise typer.Exit(exits.FAILED)


def usable_name(name: str) -> str:
    """Return a name that the broker takes as it is.

    An empty one means that it should make one up; the end of a line it leaves out, and pika then waits for an
    answer about the name with it.
    """
    if not name or "\n" in name or "\r" in name:
        raise typer.BadParameter("a name must not be empty, nor have the end of a line in it")
    return name
