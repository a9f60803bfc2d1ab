"""Stand-ins for what surrounds a delivery, for tests that need no app."""

from __future__ import annotations

import itertools
from typing import Any

from rambla_py.delivery import Delivery
from rambla_py.encoding import encode
from rambla_py.policy import Policy

POLICY = Policy()


class Nowhere:
    """A target that encodes, and takes nothing."""

    service, channel, id_prefix = "test", "demo", "t-"

    def encode(self, delivery: Delivery) -> bytes:
        return encode(delivery.payload)


_numbers = itertools.count()


def make_delivery(
    payload: Any = None, *, policy: Policy = POLICY, accepted_at: float = 0.0, **fields: Any
) -> Delivery:
    """Return a delivery that was accepted at that time."""
    return Delivery(payload, Nowhere(), None, next(_numbers), accepted_at, None, policy, {}, **fields)
