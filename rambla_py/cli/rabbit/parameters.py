"""The options that the commands of ``rambla rabbit`` share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

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
    "arguments_of",
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
        "--argument", metavar="NAME=VALUE", help="An argument, such as x-max-length=1000; may be repeated."
    ),
]
Durable = Annotated[bool, typer.Option("--durable/--transient", help="Whether it survives a broker restart.")]
AutoDelete = Annotated[bool, typer.Option("--auto-delete", help="Delete it once it is no longer used.")]
RoutingKey = Annotated[str, typer.Option(metavar="KEY", help="The routing key, or a topic pattern.")]


def arguments_of(given: Iterable[str] | None) -> dict[str, Any]:
    """Return the arguments by name; anything but name=value is a usage error."""
    try:
        return read_options(given or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--argument'") from None


def usable_name(name: str) -> str:
    """Return a name that the broker uses unchanged.

    The broker replaces an empty name by a generated one, and removes line breaks; pika would then wait for an
    answer with the original name.
    """
    if not name or "\n" in name or "\r" in name:
        raise typer.BadParameter("a name must not be empty or contain a line break")
    return name
