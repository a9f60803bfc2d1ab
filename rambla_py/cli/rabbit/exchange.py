"""This module is the commands ``rambla rabbit exchange``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pika.exceptions import ChannelClosedByBroker

from rambla_py.cli import exits
from rambla_py.cli.parameters import AsJson, ConfigFile
from rambla_py.cli.rabbit.broker import find_broker, refusal
from rambla_py.cli.rabbit.parameters import (
    Arguments,
    AutoDelete,
    Connection,
    Durable,
    Service,
    Timeout,
    Url,
    Yes,
    arguments_of,
    ask_before,
    not_empty,
)
from rambla_py.cli.rabbit.rows import show_rows
from rambla_py.cli.terminal import show_json, show_text

__all__ = ["app"]

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Exchanges: what leads messages to queues.",
)

Name = Annotated[
    str, typer.Argument(metavar="EXCHANGE", help="The name of the exchange.", callback=not_empty)
]
Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="The exchange that messages come from.", callback=not_empty)
]
RoutingKey = Annotated[str, typer.Option(metavar="KEY", help="Which messages: a routing key, or a pattern.")]


@app.command()
def declare(
    ctx: typer.Context,
    exchange: Name,
    kind: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="direct, fanout, topic, headers, or a plugin's.")
    ] = "direct",
    durable: Durable = True,
    auto_delete: AutoDelete = False,
    internal: Annotated[
        bool, typer.Option("--internal", help="Only other exchanges may publish to it.")
    ] = False,
    argument: Arguments = None,
    service: Service = None,
    connection: Connection = None,
    url: Url = None,
    timeout: Timeout = 10.0,
    config: ConfigFile = None,
) -> None:
    """Make an exchange, unless it is there already; one that is there and differs is an error."""
    arguments = arguments_of(argument)
    broker = find_broker(ctx, config, service, connection, url, timeout)
    broker.run(
        lambda channel: channel().exchange_declare(
            exchange,
            exchange_type=kind,
            durable=durable,
            auto_delete=auto_delete,
            internal=internal,
            arguments=arguments,
        )
    )
    show_text(f"exchange {exchange!r} is there: {kind}\n")


@app.command()
def delete(
    ctx: typer.Context,
    exchange: Name,
    if_unused: Annotated[bool, typer.Option("--if-unused", help="Only if nothing is bound to it.")] = False,
    yes: Yes = False,
    service: Service = None,
    connection: Connection = None,
    url: Url = None,
    timeout: Timeout = 10.0,
    config: ConfigFile = None,
) -> None:
    """Delete an exchange, with its bindings; messages in queues stay."""
    broker = find_broker(ctx, config, service, connection, url, timeout)
    ask_before(f"delete exchange {exchange!r} and its bindings", yes=yes)

    def step(channel: Any) -> None:
        # The broker takes the deletion of what is not there for done.
        channel().exchange_declare(exchange, passive=True)
        channel().exchange_delete(exchange, if_unused=if_unused)

    broker.run(step)
    show_text(f"exchange {exchange!r} is deleted\n")


@app.command()
def bind(
    ctx: typer.Context,
    exchange: Name,
    source: Source,
    routing_key: RoutingKey = "",
    argument: Arguments = None,
    service: Service = None,
    connection: Connection = None,
    url: Url = None,
    timeout: Timeout = 10.0,
    config: ConfigFile = None,
) -> None:
    """Lead messages of another exchange, SOURCE, to an exchange."""
    arguments = arguments_of(argument)
    broker = find_broker(ctx, config, service, connection, url, timeout)
    broker.run(lambda channel: channel().exchange_bind(exchange, source, routing_key, arguments))
    show_text(f"exchange {source!r} leads to exchange {exchange!r} with routing key {routing_key!r}\n")


@app.command()
def unbind(
    ctx: typer.Context,
    exchange: Name,
    source: Source,
    routing_key: RoutingKey = "",
    argument: Arguments = None,
    service: Service = None,
    connection: Connection = None,
    url: Url = None,
    timeout: Timeout = 10.0,
    config: ConfigFile = None,
) -> None:
    """Undo a binding; routing key and arguments must be those that it was made with."""
    arguments = arguments_of(argument)
    broker = find_broker(ctx, config, service, connection, url, timeout)
    broker.run(lambda channel: channel().exchange_unbind(exchange, source, routing_key, arguments))
    told = f"exchange {source!r} does not lead to exchange {exchange!r} with routing key {routing_key!r}"
    show_text(f"{told} any more\n")


@app.command()
def status(
    ctx: typer.Context,
    exchanges: Annotated[list[str], typer.Argument(metavar="EXCHANGE...", help="The names of exchanges.")],
    service: Service = None,
    connection: Connection = None,
    url: Url = None,
    timeout: Timeout = 10.0,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell which exchanges are there; AMQP tells no more of them. Exits with 1 when one is not."""
    broker = find_broker(ctx, config, service, connection, url, timeout)
    rows = broker.run(lambda channel: [_row(channel, exchange) for exchange in exchanges])
    if as_json:
        show_json(rows)
    else:
        show_rows([{**row, "status": "there"} for row in rows], ("exchange", "status"))
    raise typer.Exit(exits.OK if all(row["there"] for row in rows) else exits.FAILED)


def _row(channel: Any, exchange: str) -> dict[str, Any]:
    try:
        channel().exchange_declare(exchange, passive=True)
    except ChannelClosedByBroker as error:
        problem = refusal(error.reply_code, error.reply_text)
        return {"exchange": exchange, "there": False, "error": problem}
    return {"exchange": exchange, "there": True, "error": None}
