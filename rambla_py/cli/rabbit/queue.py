"""The commands ``rambla rabbit queue``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from pika.exceptions import ChannelClosedByBroker

from rambla_py.cli.parameters import AsJson, Yes, ask_before
from rambla_py.cli.rabbit.broker import LOCKED, Broker, refusal
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
from rambla_py.cli.terminal import counted, show_text

__all__ = ["app"]

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Queues, which hold messages for consumers.",
)

Name = Annotated[str, typer.Argument(metavar="QUEUE", help="The name of the queue.", callback=usable_name)]
Exchange = Annotated[
    str,
    typer.Argument(metavar="EXCHANGE", help="The exchange that messages come from.", callback=usable_name),
]


@app.command()
@about_broker
def declare(
    queue: Name,
    kind: Annotated[
        Literal["classic", "quorum", "stream"] | None,
        typer.Option("--type", help="The kind of queue; the broker's default when not given."),
    ] = None,
    durable: Durable = True,
    auto_delete: AutoDelete = False,
    argument: Arguments = None,
    *,
    broker: Broker,
) -> None:
    """Declare a queue; one that exists with other properties is an error."""
    arguments = arguments_of(argument) | ({"x-queue-type": kind} if kind else {})
    found = broker.run(
        lambda channel: channel().queue_declare(
            queue, durable=durable, auto_delete=auto_delete, arguments=arguments
        )
    ).method
    messages = counted(found.message_count, "message")
    show_text(f"queue {queue!r} exists: {messages}, {counted(found.consumer_count, 'consumer')}\n")


@app.command()
@about_broker
def delete(
    queue: Name,
    if_empty: Annotated[bool, typer.Option("--if-empty", help="Only if it has no message.")] = False,
    if_unused: Annotated[bool, typer.Option("--if-unused", help="Only if it has no consumer.")] = False,
    yes: Yes = False,
    *,
    broker: Broker,
) -> None:
    """Delete a queue, with every message in it."""
    ask_before(f"delete queue {queue!r} and every message in it", yes=yes)

    def step(channel: Any) -> int:
        # The broker confirms the deletion of what does not exist.
        channel().queue_declare(queue, passive=True)
        done = channel().queue_delete(queue, if_empty=if_empty, if_unused=if_unused)
        return int(done.method.message_count)

    show_text(f"queue {queue!r} is deleted, with {counted(broker.run(step), 'message')}\n")


@app.command()
@about_broker
def purge(
    queue: Name,
    yes: Yes = False,
    *,
    broker: Broker,
) -> None:
    """Purge all messages that are not awaiting acknowledgement."""
    ask_before(f"purge queue {queue!r}", yes=yes)
    done = broker.run(lambda channel: channel().queue_purge(queue))
    show_text(f"queue {queue!r}: {counted(done.method.message_count or 0, 'message')} removed\n")


@app.command()
@about_broker
def bind(
    queue: Name,
    exchange: Exchange,
    routing_key: RoutingKey = "",
    argument: Arguments = None,
    *,
    broker: Broker,
) -> None:
    """Route messages of an exchange to a queue."""
    arguments = arguments_of(argument)
    broker.run(lambda channel: channel().queue_bind(queue, exchange, routing_key, arguments))
    show_text(f"queue {queue!r} is bound to exchange {exchange!r} with routing key {routing_key!r}\n")


@app.command()
@about_broker
def unbind(
    queue: Name,
    exchange: Exchange,
    routing_key: RoutingKey = "",
    argument: Arguments = None,
    *,
    broker: Broker,
) -> None:
    """Remove a binding; routing key and arguments must be those that it was created with."""
    arguments = arguments_of(argument)
    broker.run(lambda channel: channel().queue_unbind(queue, exchange, routing_key, arguments))
    removed = f"queue {queue!r} from exchange {exchange!r} with routing key {routing_key!r}"
    show_text(f"unbound {removed}\n")


@app.command()
@about_broker
def status(
    queues: Annotated[list[str], typer.Argument(metavar="QUEUE...", help="The names of queues.")],
    *,
    broker: Broker,
    as_json: AsJson = False,
) -> None:
    """Show how many messages are ready in queues, and how many consumers they have.

    Exits with 1 when one does not exist. AMQP cannot list queues: each has to be named.
    """
    rows = broker.run(lambda channel: [_row(channel, queue) for queue in queues])
    show_status(rows, ("queue", "messages", "consumers"), as_json=as_json)


def _row(channel: Any, queue: str) -> dict[str, Any]:
    row: dict[str, Any] = {"queue": queue, "there": True, "messages": None, "consumers": None, "error": None}
    try:
        found = channel().queue_declare(queue, passive=True).method
    except ChannelClosedByBroker as error:
        problem = refusal(error.reply_code, error.reply_text)
        return {**row, "there": error.reply_code == LOCKED, "error": problem}
    return {**row, "messages": found.message_count, "consumers": found.consumer_count}
