"""The command ``rambla rabbit``: queues and exchanges of RabbitMQ, over AMQP itself."""

import typer

from rambla_py.cli.rabbit import exchange, queue

__all__ = ["app"]

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Declare, delete, purge, bind and inspect queues and exchanges of RabbitMQ.",
)
app.add_typer(queue.app, name="queue")
app.add_typer(exchange.app, name="exchange")
