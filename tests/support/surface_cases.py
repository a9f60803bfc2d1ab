"""What the tests split from test_app_surface share."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from small_apps import probe

from rambla_py.handler import per_channel


class Options(msgspec.Struct, frozen=True):
    """Options as a handler may declare them."""

    routing_key: str = "none"
    size: int = 1
    table: Annotated[str, per_channel("where rows go")] = "events"


def echo(message: Any) -> Any:
    """Return all that a handler can see of a message."""
    return {
        "payload": message.payload,
        "id": message.id,
        "key": message.key,
        "headers": dict(message.headers),
        "options": message.options,
        "retries": message.policy.retries,
    }


ECHO = probe(echo, Options=Options)
