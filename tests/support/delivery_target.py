"""Deliveries and their targets for tests of handlers, without an app around them."""

from __future__ import annotations

from typing import Any

from rambla_py.delivery import Delivery, LiveDelivery
from rambla_py.serialization.encoding import encode


class Target:
    """What a delivery needs of that place."""

    def __init__(self, service: str, channel: str = "orders", *, id_prefix: str = "run-") -> None:
        self.service, self.channel, self.id_prefix = service, channel, id_prefix

    def encode(self, delivery: Delivery) -> bytes:
        return encode(delivery.payload)

    def expect_ids(self) -> None:
        """Draw no ids beforehand."""


def live_delivery(payload: Any, **fields: Any) -> LiveDelivery:
    """Return a delivery as the runtime would make it; ``fields`` override the defaults.

    Its id is the target's ``id_prefix``, where it has one, and its number.
    """
    defaults = {"receipt": None, "seq": 0, "accepted_at": 0.0, "attempts": 0, "key": None, "headers": {}}
    given = {**defaults, **fields}
    prefix = getattr(given.get("target"), "id_prefix", None)
    if prefix is not None and given.get("given_id") is None:
        given["given_id"] = f"{prefix}{given['seq']:x}"
    return LiveDelivery(payload=payload, **given)
