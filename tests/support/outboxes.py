"""Apps with an outbox in a folder, and handlers whose answers a test decides."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rambla_py import Handler, Rambla
from rambla_py.outbox.journal import Account
from rambla_py.outbox.sqlite.journal import SqliteJournal

NAME = "probe.orders"


PREPARING = threading.Event()
PREPARED = threading.Event()


def slow_serializer(payload: Any) -> bytes:
    """Serialize once ``PREPARED`` is set; the serializer of a channel."""
    PREPARING.set()
    PREPARED.wait(20)
    return str(payload).encode()


class Backend:
    """What the handlers of one test received, and what they answer; ``gate`` holds attempts back."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.ids: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.answers: list[Any] = []

    def take(self, message: Any) -> Any:
        self.gate.wait(20)
        self.received.append(message.payload)
        self.ids.append(message.id)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def handler(self, **attributes: Any) -> type[Handler]:
        backend = self

        class Probe(Handler):
            def handle_publish(self, message: Any, options: Any, state: Any) -> Any:
                return backend.take(message)

        for name, value in attributes.items():
            setattr(Probe, name, value)
        return Probe


def table_of(
    folder: Path, handler: type[Handler], outbox: dict[str, Any] | None = None, **channel: Any
) -> dict[str, Any]:
    """Return a configuration with one durable channel, ``probe.orders``, and the outbox in a folder."""
    url = f"sqlite:///{folder / 'outbox.db'}"
    return {
        "rambla": {"outbox": {"url": url, **(outbox or {})}},
        "probe": {
            "handler": handler,
            "connections": {"default": {}},
            "channels": {"orders": {"connection": "default", "durable": True, **channel}},
        },
    }


@contextmanager
def running(table: dict[str, Any], stop_s: float = 5.0) -> Iterator[Rambla]:
    """Run an app, and stop it within ``stop_s``."""
    app = Rambla(table).start()
    try:
        yield app
    finally:
        app.stop(stop_s)


def account(folder: Path, name: str = NAME) -> Account:
    """Return what the journal of a folder says of a target."""
    journal = SqliteJournal(folder / "outbox.db")
    journal.open(delivers=False)
    try:
        accounts, sequence = journal.ledger()
        found = accounts.get(name, Account())
        assert found.difference == 0, found
        assert sum(one.accepted for one in accounts.values()) == sequence
        return found
    finally:
        journal.close()
