"""The private part of kombu that the kombu handler uses; a kombu without it fails here first, by name."""

from __future__ import annotations

import inspect
import uuid

import kombu
import pytest
from kombu.transport.virtual import Channel as VirtualChannel

from rambla_py.handlers.kombu.kombu_private import routes


def test_kombu_is_a_version_that_was_read() -> None:
    """The private part was read in kombu 5.5 to 5.7."""
    assert (5, 5) <= kombu.VERSION[:2] < (5, 8)


def test_the_private_method_has_its_signature() -> None:
    """``Channel._lookup`` takes exchange and routing key."""
    assert list(inspect.signature(VirtualChannel._lookup).parameters)[:3] == [
        "self",
        "exchange",
        "routing_key",
    ]


@pytest.mark.parametrize(
    ("kind", "key", "found"), [("direct", "k", True), ("direct", "no", False), ("fanout", "no", True)]
)
def test_routes_are_found(kind: str, key: str, found: bool) -> None:
    """A queue that is bound with the key, or any key of a fanout exchange."""
    name = f"{kind}-{uuid.uuid4()}"  # what is in memory is shared by the process
    with kombu.Connection("memory://") as connection:
        channel = connection.channel()
        exchange = kombu.Exchange(name, type=kind)
        kombu.Queue(name, exchange, routing_key="k").bind(channel).declare()
        assert routes(channel, name, key, kind) is found
