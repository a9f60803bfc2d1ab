"""This module stands for the place that a delivery goes to, without an app around it."""

from __future__ import annotations

from rambla_py.delivery import Delivery
from rambla_py.encoding import encode


class Target:
    """What a delivery needs of that place."""

    def __init__(self, service: str, channel: str = "orders", *, id_prefix: str = "run-") -> None:
        self.service, self.channel, self.id_prefix = service, channel, id_prefix

    def encode(self, delivery: Delivery) -> bytes:
        return encode(delivery.payload)
