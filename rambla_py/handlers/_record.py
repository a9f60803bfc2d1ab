"""This module writes a message as one line of JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from rambla_py.encoding import to_json
from rambla_py.wire import embedded

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["Shape", "json_line"]

Shape = Literal["payload", "full"]


class _Full(msgspec.Struct, omit_defaults=True):
    id: str
    channel: str
    at: float
    key: str | None = None
    headers: dict[str, Any] = {}
    payload: msgspec.Raw = msgspec.Raw(b"null")


def json_line(message: Delivery, *, shape: Shape, channel: str, at: float) -> bytes:
    """Return the message as JSON without a line break.

    ``"payload"`` writes the payload alone; ``"full"`` an object with ``id``, ``channel``, ``at`` (seconds
    since the epoch), ``key`` and ``headers`` where there are any, and ``payload``. Text and bytes (UTF-8)
    become a JSON string, so that a line break in them stays inside; ``format = "object"`` embeds the JSON
    that they hold. Raises ``SerializationError``.
    """
    policy = message.policy
    value = message.payload
    if type(value) is not dict or policy.format != "none" or policy.serializer != "json":
        value = embedded(message)
    line = to_json(value)
    if shape == "full":
        whole = _Full(message.id, channel, at, message.key, message.headers, msgspec.Raw(line))
        line = to_json(whole)
    # Only JSON that the user wrote, given as msgspec.Raw, can hold a line break.
    return msgspec.json.format(line, indent=-1) if b"\n" in line else line
