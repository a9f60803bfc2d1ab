"""This module gives the live tests of handlers over HTTP an app with one channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rambla_py.app import Rambla
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
