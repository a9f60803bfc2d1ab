"""The commands ``rambla rabbit exchange``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pika.exceptions import ChannelClosedByBroker

from rambla_py.cli.parameters import AsJson, Yes, ask_before
from rambla_py.cli.rabbit.broker import Broker, refusal
from rambla_py.cli.rabbit.command import about_broker
from rambla_py.cli.rabbit.parameters import (
    Arguments,
    AutoDelete,
    Durable,
    RoutingKey,
    arguments_of,
    usable_name,
)
from rambla_py.cli.rabbit.rows import show_status
from rambla_py.cli.terminal import show_text

__all__ = ["app"]

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Exchanges, which route messages to queues.",
)

Name = Annotated[
    str, typer.Argument(metavar="EXCHANGE", help="The name of the exchange.", callback=usable_name)
]
Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="The exchange that messages come from.", callback=usable_name)
]


@app.command()
@about_broker
def declare(
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
    *,
    broker: Broker,
) -> None:
    """Declare an exchange; one that exists with other properties is an error."""
    arguments = arguments_of(argument)
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
    show_text(f"exchange {exchange!r} exists: {kind}\n")


@app.command()
@about_broker
def delete(
    exchange: Name,
    if_unused: Annotated[bool, typer.Option("--if-unused", help="Only if nothing is bound to it.")] = False,
    yes: Yes = False,
    *,
    broker: Broker,
) -> None:
    """Delete an exchange, with its bindings; messages in queues stay."""
    ask_before(f"delete exchange {exchange!r} and its bindings", yes=yes)

    def step(channel: Any) -> None:
        # The broker confirms the deletion of what does not exist.
        channel().exchange_declare(exchange, passive=True)
        channel().exchange_delete(exchange, if_unused=if_unused)

    broker.run(step)
    show_text(f"exchange {exchange!r} is deleted\n")


@app.command()
@about_broker
def bind(
    exchange: Name,
    source: Source,
    routing_key: RoutingKey = "",
    argument: Arguments = None,
    *,
    broker: Broker,
) -> None:
    """Route messages of another exchange, SOURCE, to an exchange."""
    arguments = arguments_of(argument)
    broker.run(lambda channel: channel().exchange_bind(exchange, source, routing_key, arguments))
    show_text(f"exchange {exchange!r} is bound to exchange {source!r} with routing key {routing_key!r}\n")


@app.command()
@about_broker
def unbind(
    exchange: Name,
    source: Source,
    routing_key: RoutingKey = "",
    argument: Arguments = None,
    *,
    broker: Broker,
) -> None:
    """Remove a binding; routing key and arguments must be those that it was created with."""
    arguments = arguments_of(argument)
    broker.run(lambda channel: channel().exchange_unbind(exchange, source, routing_key, arguments))
    removed = f"exchange {exchange!r} from exchange {source!r} with routing key {routing_key!r}"
    show_text(f"unbound {removed}\n")


@app.command()
@about_broker
def status(
    exchanges: Annotated[list[str], typer.Argument(metavar="EXCHANGE...", help="The names of exchanges.")],
    *,
    broker: Broker,
    as_json: AsJson = False,
) -> None:
    """Show whether exchanges exist; AMQP reports nothing else. Exits with 1 when one does not."""
    rows = broker.run(lambda channel: [_row(channel, exchange) for exchange in exchanges])
    show_status(rows, ("exchange", "status"), as_json=as_json)


def _row(channel: Any, exchange: str) -> dict[str, Any]:
    try:
        channel().exchange_declare(exchange, passive=True)
    except ChannelClosedByBroker as error:
        problem = refusal(error.reply_code, error.reply_text)
        return {"exchange": exchange, "there": False, "error": problem}
    return {"exchange": exchange, "there": True, "error": None}
