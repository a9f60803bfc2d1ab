"""The options that select a broker, added to a command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

import typer

from rambla_py.cli.parameters import ConfigFile
from rambla_py.cli.rabbit.broker import Broker, find_broker
from rambla_py.cli.rabbit.parameters import Connection, Service, Timeout, Url

__all__ = ["about_broker"]


def about_broker(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the keyword ``broker`` of a command by the options that select a broker, and pass the broker.

    Raises ``ValueError`` for a command without this keyword.
    """
    own = inspect.signature(command, eval_str=True).parameters
    asked = inspect.signature(_broker, eval_str=True).parameters

    @functools.wraps(command)
    def run(**given: object) -> None:
        broker = _broker(**{name: given.pop(name) for name in asked})  # type: ignore[arg-type]  # typer checked them
        command(broker=broker, **given)

    place = list(own).index("broker")
    before, after = list(own.values())[:place], list(own.values())[place + 1 :]
    shown = inspect.Signature([*before, *asked.values(), *after])
    run.__signature__ = shown  # type: ignore[attr-defined]  # read by inspect, and so by typer
    return run


def _broker(
    *,
    ctx: typer.Context,
    service: Service = None,
    connection: Connection = None,
    url: Url = None,
    timeout: Timeout = 10.0,
    config: ConfigFile = None,
) -> Broker:
    return find_broker(ctx, config, service, connection, url, timeout)
