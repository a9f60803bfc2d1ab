"""Stand-ins for what surrounds a delivery, for tests that need no app."""

from __future__ import annotations

import itertools
from typing import Any

from rambla_py.delivery import LiveDelivery
from rambla_py.policy import Policy
from rambla_py.serialization.encoding import encode

POLICY = Policy()


class Nowhere:
    """A target that encodes, and takes nothing."""

    service, channel, id_prefix = "test", "demo", "t-"

    def encode(self, delivery: LiveDelivery) -> bytes:
        return encode(delivery.payload)

    def expect_ids(self) -> None:
        """Draw no ids beforehand."""


_numbers = itertools.count()


def make_delivery(
    payload: Any = None, *, policy: Policy = POLICY, accepted_at: float = 0.0, **fields: Any
) -> LiveDelivery:
    """Return a delivery that was accepted at that time."""
    return LiveDelivery(
        payload,
        fields.pop("options", None),
        policy,
        fields.pop("headers", {}),
        fields.pop("key", None),
        accepted_at,
        fields.pop("attempts", 0),
        Nowhere(),
        None,
        next(_numbers),
        **fields,
    )
