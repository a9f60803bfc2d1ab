"""An app with one channel, for the live tests of the handlers over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from web_server import Reply, Seen, WebServer

from rambla_py.app import Rambla
from rambla_py.errors import ConnectionLostError
from rambla_py.handlers.http import HttpHandler
from rambla_py.outcome import Outcome

TIMEOUT_S = 20.0
_QUICK = {"retries": 2, "backoff": {"initial_s": 0.01, "max_s": 0.02}}


class OneChannel:
    """An app with the channel ``to``, and the outcomes of what is published to it."""

    def __init__(self, app: Rambla) -> None:
        self.app = app

    def send(self, payload: Any, **options: Any) -> Outcome:
        return self.app.publish("to", payload, **options).outcomes(timeout_s=TIMEOUT_S)[0]

    def send_many(self, payloads: Sequence[Any]) -> list[Outcome]:
        return self.app.publish_many("to", payloads).outcomes(timeout_s=TIMEOUT_S)

    def status(self) -> Any:
        return next(iter(self.app.status().values()))


@contextmanager
def channel(
    handler: str, connection: dict[str, Any], channel: dict[str, Any] | None = None, **options: Any
) -> Iterator[OneChannel]:
    """Run an app whose channel has these options."""
    settings = {**(channel or {}), "options": {**_QUICK, **options}, "connection": "main"}
    table = {
        "service": {"handler": handler, "connections": {"main": connection}, "channels": {"to": settings}}
    }
    with Rambla(table) as app:
        yield OneChannel(app)


def to(server: WebServer, /, connection: dict[str, Any] | None = None, **options: Any) -> Any:
    """Run an app whose http channel sends to ``/in`` of a server."""
    return channel("http", {"url": f"{server.url}/in", **(connection or {})}, **options)


def refusal(**connection: Any) -> ConnectionLostError:
    """Return the error of a connect that must fail."""
    with pytest.raises(ConnectionLostError) as caught:
        HttpHandler(HttpHandler.Connection(**connection)).connect()
    return caught.value


def replies(*replies: Reply) -> Callable[[Seen], Reply]:
    """Return these answers one after the other, then the last one for ever."""
    left = list(replies)
    return lambda seen: left.pop(0) if len(left) > 1 else left[0]
