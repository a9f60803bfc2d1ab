"""A message as one line of JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from rambla_py.serialization.encoding import to_json
from rambla_py.serialization.wire_format import body_of

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Takes

__all__ = ["Shape", "json_line"]

Shape = Literal["payload", "full"]


class _Origin(msgspec.Struct):
    service: str
    channel: str
    target: str


class _Full(msgspec.Struct, omit_defaults=True):
    id: str
    channel: str
    service: str
    at: float
    origin: _Origin | None = None
    status: str | None = None
    error: str | None = None
    attempts: int | None = None
    key: str | None = None
    headers: dict[str, Any] = {}
    payload: msgspec.Raw | None = None


def json_line(message: Delivery, *, shape: Shape, channel: str, at: float, takes: Takes = "json") -> bytes:
    """Return a message as JSON without a line break; ``takes`` is what its handler takes.

    ``"payload"`` writes the payload alone; ``"full"`` an object with ``id``, ``channel``, ``service``, ``at``
    (seconds since the epoch), ``key`` and ``headers`` where there are any, and ``payload``. A message that
    came as the fallback of another target also has ``origin`` (``service``, ``channel``, ``target``) and
    how it ended there: ``status``, ``error``, ``attempts``. Strings and bytes (UTF-8) become a JSON string,
    in which a line break is escaped; ``format = "object"`` embeds the JSON that they hold. Raises
    ``SerializationError``.
    """
    line = message.body() if takes == "json" else body_of(message, "json")
    if shape == "full":
        line = to_json(_full(message, channel, at, msgspec.Raw(line)))
    # Only JSON given as msgspec.Raw can hold a line break.
    return msgspec.json.format(line, indent=-1) if ord("\n") in line else line


def _full(message: Delivery, channel: str, at: float, payload: msgspec.Raw) -> _Full:
    record = _Full(
        message.id,
        channel,
        message.service,
        at,
        key=message.key,
        headers=message.headers,
        payload=payload,
    )
    ended = message.origin
    if ended is not None:
        target = f"{ended.service}.{ended.channel}"
        record.origin = _Origin(ended.service, ended.channel, target)
        record.status, record.error, record.attempts = ended.status, message.origin_error, ended.attempts
    return record
