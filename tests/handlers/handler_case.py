"""This module hands real deliveries to a handler, without an app around it."""

from __future__ import annotations

import itertools
from typing import Any

from rambla_py.delivery import Delivery
from rambla_py.handler import Handler, State
from rambla_py.policy import Policy
from rambla_py.wire import body_of

_numbers = itertools.count(1)


class Target:
    """What a delivery needs of the place it goes to."""

    service, channel, id_prefix = "svc", "orders", "m-"

    def encode(self, delivery: Delivery) -> bytes:
        return body_of(delivery)


def delivery(
    payload: Any, *, options: Any = None, key: str | None = None, headers: Any = None, **policy: Any
) -> Delivery:
    """Return a delivery as the pool would make it."""
    return Delivery(
        payload=payload,
        target=Target(),
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
        return delivery(payload, options=self.options, **policy)
