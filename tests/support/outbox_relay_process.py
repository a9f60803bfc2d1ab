"""A process that publishes to a PostgreSQL outbox and delivers from it, until it is killed.

Usage: python outbox_relay_process.py URL FILE. Prints the id of each message once ``publish`` has returned;
the handler appends the ids that it was given to FILE.
"""

from __future__ import annotations

import itertools
import os
import sys
from typing import Any

from rambla_py import Handler, Rambla


class Witness(Handler):
    """Appends ids to a file, each with one write."""

    takes = "nothing"

    def connect(self) -> int:
        return os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def handle_publish(self, message: Any, options: Any, state: Any) -> None:
        os.write(state.connection, f"{message.id}\n".encode())


def main() -> None:
    table = {
        "rambla": {"outbox": {"url": sys.argv[1]}},
        "probe": {
            "handler": Witness,
            "connections": {"c": {}},
            "channels": {"orders": {"connection": "c", "durable": True}},
        },
    }
    with Rambla(table) as app:
        for number in itertools.count():
            key = f"k{number % 7}" if number % 2 else None
            receipt = app.publish("orders", number, id=f"m-{number}", **({} if key is None else {"key": key}))
            os.write(1, f"m-{number} {receipt.level}\n".encode())


if __name__ == "__main__":
    main()
