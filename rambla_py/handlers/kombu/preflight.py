"""What would make every message of a channel fail, found out without publishing or declaring anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.connection import Connection

from rambla_py.handlers.kombu.settings import KombuOptions

if TYPE_CHECKING:
    from rambla_py.handler import Preflight

__all__ = ["look"]


def look(
    connection: Connection, where: str, options: KombuOptions, queue: str | None, report: Preflight
) -> None:
    """Look for the exchange and the queue of the options; ``queue`` is None where none is needed."""
    for kind, name in (("exchange", options.exchange), ("queue", queue)):
        if name and not _exists(connection, kind, name, options.exchange_type):
            if options.declare:
                report.would_create(f"{kind} {name!r}")
            else:
                report.problem(
                    f"{where}: there is no {kind} {name!r}", hint="create it, or set declare = true"
                )
    report.not_checked(f"the right to write to {where}")


def _exists(connection: Connection, kind: str, name: str, exchange_type: str) -> bool:
    channel: Any = connection.channel()
    try:
        if kind == "exchange":
            channel.exchange_declare(name, type=exchange_type, passive=True)
        else:
            channel.queue_declare(name, passive=True)
    except connection.channel_errors:
        return False
    channel.close()
    return True
