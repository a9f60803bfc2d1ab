"""Deliveries for the amqp handler's parts, with a record of how they were settled."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import msgspec
from delivery_target import live_delivery

from rambla_py.delivery import Delivery
from rambla_py.handlers.amqp.settings import AmqpOptions
from rambla_py.message import Ok
from rambla_py.policy import Policy
from rambla_py.serialization.wire_format import body_of

_numbers = itertools.count(1)
_policy = functools.cache(Policy)  # one object for all messages that have the same, as in the pool


class Target:
    """What a delivery needs of the place it goes to."""

    service, channel, id_prefix = "amqp", "orders", "m-"

    def encode(self, delivery: Delivery) -> bytes:
        return body_of(delivery)

    def expect_ids(self) -> None:
        """Draw no ids beforehand."""


class Notes:
    """A session that writes down each first answer."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}

    def settle(self, delivery: Delivery, answer: Any) -> None:
        self.answers.setdefault(delivery.id, answer)

    def settle_ok(self, delivery: Delivery, result: Any) -> None:
        self.answers.setdefault(delivery.id, Ok(result))


def amqp_options(**table: Any) -> AmqpOptions:
    """Return options as the configuration makes them."""
    return msgspec.convert(table, AmqpOptions)


def amqp_delivery(
    payload: Any = b"hello",
    options: AmqpOptions | None = None,
    *,
    notes: Notes | None = None,
    headers: dict[str, Any] | None = None,
    given_id: str | None = None,
    **policy: Any,
) -> Delivery:
    """Return a delivery as the pool would make it."""
    return live_delivery(
        payload=payload,
        target=Target(),
        receipt=None,
        seq=next(_numbers),
        accepted_at=0.0,
        options=options or AmqpOptions(),
        policy=_policy(**policy),
        headers=headers or {},
        given_id=given_id,
        session=notes,
    )
