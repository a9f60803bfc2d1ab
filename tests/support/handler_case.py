"""A handler that is given real deliveries, without an app around it."""

from __future__ import annotations

import itertools
from typing import Any

from delivery_target import live_delivery

from rambla_py.delivery import Delivery
from rambla_py.handler import Handler, State, Takes
from rambla_py.policy import Policy
from rambla_py.serialization.wire_format import body_of

_numbers = itertools.count(1)


class Target:
    """What a delivery needs of the place it goes to."""

    service, channel, id_prefix = "svc", "orders", "m-"

    def __init__(self, takes: Takes = "bytes") -> None:
        self._takes = takes

    def encode(self, delivery: Delivery) -> bytes:
        return body_of(delivery, self._takes)

    def expect_ids(self) -> None:
        """Draw no ids beforehand."""


def delivery(
    payload: Any,
    *,
    options: Any = None,
    key: str | None = None,
    headers: Any = None,
    takes: Takes = "bytes",
    **policy: Any,
) -> Delivery:
    """Return a delivery as the pool would make it, for a handler that takes that of payloads."""
    return live_delivery(
        payload=payload,
        target=Target(takes),
        receipt=None,
        seq=next(_numbers),
        accepted_at=0.0,
        options=options,
        policy=Policy(**policy),
        headers=headers or {},
        key=key,
    )


class Case:
    """A handler of one channel, connected."""

    def __init__(self, kind: type[Handler], *, settings: Any = None, channel: str = "orders", **options: Any):
        self.options = kind.Options(**options)
        self.settings = kind.Connection() if settings is None else settings
        self.handler = kind(self.settings, channel=channel, service="svc", options=self.options)
        self.connection = self.handler.connect()
        self.state = State(self.connection, channel, "svc")

    def send(self, *payloads: Any, **policy: Any) -> Any:
        """Deliver payloads, or deliveries, as one batch, and return the answers."""
        return self.handler.handle_batch([self._made(payload, policy) for payload in payloads], self.state)

    def close(self) -> None:
        self.handler.close(self.connection)

    def _made(self, payload: Any, policy: dict[str, Any]) -> Delivery:
        if isinstance(payload, Delivery):
            return payload
        takes = type(self.handler).takes_for(self.options)
        return delivery(payload, options=self.options, takes=takes, **policy)
