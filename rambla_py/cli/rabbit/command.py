"""This module gives commands the options that say which broker they are about."""

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
    """Put those options in the place of the keyword ``broker`` of a command, which is given the broker.

    Raises ``ValueError`` for a command that has no such keyword.
    """
    own = inspect.signature(command, eval_str=True).parameters
    asked = inspect.signature(_broker, eval_str=True).parameters

    @functools.wraps(command)
    def run(**given: object) -> None:
        broker = _broker(**{name: given.pop(name) for name in asked})  # type: ignore[arg-type]  # typer saw to it
        command(broker=broker, **given)

    place = list(own).index("broker")
    before, after = list(own.values())[:place], list(own.values())[place + 1 :]
    shown = inspect.Signature([*before, *asked.values(), *after])
    run.__signature__ = shown  # type: ignore[attr-defined]  # where inspect looks, and typer with it
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
