"""Content types by which consumers of kombu decode a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rambla_py.serialization.wire_format import media_type

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["EVENT_PREFIX", "content_of"]

EVENT_PREFIX: Final = "ce-"

_JSON = ("application/json", "utf-8")
_TEXT = ("text/plain", "utf-8")
_BYTES = ("application/data", "binary")
_BY_SERIALIZER = {"json": _JSON, "msgpack": ("application/x-msgpack", "binary")}


def content_of(delivery: Delivery) -> tuple[str, str]:
    """Return content type and encoding, by the names that kombu's own serializers have."""
    payload, policy = delivery.payload, delivery.policy
    if policy.format != "object":
        if isinstance(payload, str):
            return _TEXT
        if isinstance(payload, bytes | bytearray | memoryview):
            return _BYTES
    # CloudEvents have types of their own; a serializer of the application may write anything.
    kind = media_type(delivery)
    if kind.endswith("json"):
        return kind, "utf-8"
    return _BY_SERIALIZER.get(policy.serializer, _BYTES)
