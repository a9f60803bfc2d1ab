"""Attributes of spans and metrics."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from rambla_py.described import Described
from rambla_py.telemetry.records import target_extra

if TYPE_CHECKING:
    from rambla_py.handler import Handler

__all__ = ["SCHEMA_URL", "SCOPE", "SpanTarget", "TargetAttributes", "epoch_ns", "result_attributes"]

SCOPE: Final = "rambla_py"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

log = logging.getLogger("rambla_py.telemetry")

Attributes = dict[str, str | int]


class SpanTarget(Protocol):
    """The configuration of a target, as far as spans show it."""

    service: str
    channel: str
    handler: type[Handler]
    settings: Any
    options: Any

    @property
    def name(self) -> str:
        """``service.channel``."""


class TargetAttributes:
    """The attributes of one target, and what it sends to."""

    def __init__(self, target: SpanTarget) -> None:
        described = _described(target)
        self.destination = described.destination or target.channel
        self.create_name, self.send_name = f"create {target.channel}", f"send {self.destination}"
        self.common: Attributes = {
            "messaging.system": described.system or "rambla",
            "messaging.destination.name": self.destination,
            "rambla.service": target.service,
            "rambla.channel": target.channel,
            "rambla.handler": target.handler.__name__,
        }
        if described.address:
            self.common["server.address"] = described.address
        if described.port is not None:
            self.common["server.port"] = described.port
        operation = "messaging.operation.name", "messaging.operation.type"
        self.create: Attributes = {**self.common, **dict.fromkeys(operation, "create")}
        self.send: Attributes = {**self.common, **described.attributes, **dict.fromkeys(operation, "send")}

    def created(self, message_id: str) -> Attributes:
        """Return the attributes of the ``create`` span of a message."""
        return {**self.create, "messaging.message.id": message_id}


def _described(target: SpanTarget) -> Described:
    try:
        handler = target.handler(
            target.settings, channel=target.channel, service=target.service, options=target.options
        )
        described = handler.describe(target.options)
    except Exception as error:  # user code
        log.warning(
            "%s: describe raised %s; spans show its channel only",
            target.name,
            type(error).__name__,
            extra=target_extra(target),
        )
        return Described()
    return described if isinstance(described, Described) else Described()


def result_attributes(result: Any) -> Attributes:
    """Return what the result of a handler shows of the answer: the status of HTTP, the partition of Kafka."""
    found: Attributes = {}
    if isinstance(status := getattr(result, "status", None), int):
        found["http.response.status_code"] = status
    if isinstance(partition := getattr(result, "partition", None), int):
        found["messaging.destination.partition.id"] = str(partition)
    return found


def epoch_ns(monotonic_s: float) -> int:
    """Return a time of the monotonic clock, in seconds, as nanoseconds since the epoch."""
    return time.time_ns() - time.monotonic_ns() + int(monotonic_s * 1e9)
