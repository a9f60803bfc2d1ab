"""A worker of the smtp handler, and an app of one mail channel."""

from __future__ import annotations

import email
import email.policy
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec
import pytest
from delivery_target import Target, live_delivery

from rambla_py.app import Rambla
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
)
from rambla_py.handler import Link, Secret, State
from rambla_py.handlers.smtp import SmtpHandler
from rambla_py.handlers.smtp.connection import Sent
from rambla_py.policy import Policy
from rambla_py.testing import FaultProxy, Server
from rambla_py.testing.ports import HOST
from rambla_py.testing.smtp_server import KeptMail

Proxies = Callable[[Server], FaultProxy]


class Worker:
    """Stands for a worker: a handler with its live connection, for mails to one recipient of its own."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.handler = SmtpHandler(connection_table(settings), channel="mail", service="smtp")
        self.losses: list[BaseException] = []
        self.handler.link = Link(lost=self.losses.append)
        self.connection = self.handler.connect()
        self.sent = 0

    def send(self, payload: Any = "Hello", **options: Any) -> Sent:
        self.sent += 1
        made = msgspec.convert(options, SmtpHandler.Options)
        message = live_delivery(
            payload,
            target=Target("smtp", "mail"),
            options=made,
            policy=Policy(),
            given_id=f"mail-{self.sent}",
        )
        return self.handler.handle_publish(message, made, State(self.connection, "mail", "smtp"))

    def fails(self, kind: type[DeliveryError], payload: Any = "Hello", **options: Any) -> str:
        """Send a mail that must fail with this error, exactly; return what it says."""
        with pytest.raises(kind) as caught:
            self.send(payload, **options)
        assert type(caught.value) is kind
        return str(caught.value)

    def close(self) -> None:
        self.handler.close(self.connection)


def connection_table(settings: dict[str, Any]) -> Any:
    password = settings.get("password")
    given = {**settings, "password": None if password is None else Secret(password)}
    return msgspec.convert(
        {"from": "Shop <shop@example.com>", **given},
        SmtpHandler.Connection,
        dec_hook=lambda kind, value: value,
    )


@contextmanager
def worker(port: int, **settings: Any) -> Iterator[Worker]:
    with closing(Worker({"relay": HOST, "port": port, "tls": "never", **settings})) as made:
        yield made


def refusal(port: int, kind: type[ConnectionLostError] = AccessError, **settings: Any) -> str:
    """Return what the error of a connect that must fail says."""
    with pytest.raises(ConnectionLostError) as caught:
        SmtpHandler(connection_table({"relay": HOST, "port": port, "tls": "never", **settings})).connect()
    assert type(caught.value) is kind
    return str(caught.value)


def in_background(run: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@contextmanager
def app(
    port: int, *, on_unknown: str = "retry", connection: dict[str, Any] | None = None, **options: Any
) -> Iterator[Rambla]:
    table = {
        "connections": {
            "relay": {
                "relay": HOST,
                "port": port,
                "tls": "never",
                "from": "shop@example.com",
                **(connection or {}),
            }
        },
        "channels": {
            "mail": {
                "connection": "relay",
                "on_unknown": on_unknown,
                "options": {"retries": 2, "backoff": {"initial_s": 0.01, "max_s": 0.02}, **options},
            }
        },
    }
    with Rambla({"smtp": table}) as running:
        yield running


def header(mail: KeptMail, name: str) -> str:
    return str(email.message_from_bytes(mail.content, policy=email.policy.default)[name])
