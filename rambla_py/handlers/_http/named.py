"""This module puts a message's id into the JSON object that it is sent as, among many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from rambla_py.cloudevent import EVENTS
from rambla_py.encoding import to_json
from rambla_py.errors import PermanentError

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["one_line", "with_id"]


def one_line(value: Any) -> bytes:
    r"""Return a value as JSON on one line; raises ``SerializationError``.

    >>> one_line(msgspec.Raw(b'{"id":\n 42}'))
    b'{"id":42}'
    """
    written = to_json(value)
    # Only JSON that the user wrote, given as msgspec.Raw, can hold a line break.
    return msgspec.json.format(written, indent=-1) if b"\n" in written else written


def with_id(written: bytes, value: Any, delivery: Delivery, *, field: str, option: str) -> bytes:
    """Return the JSON of a value with the message's id as ``field``, where it is an object.

    An event has its id already, as ``id``. Raises ``PermanentError``, which names the ``option``, when the
    object has a field of that name.
    """
    if not field or not written.startswith(b"{") or (field == "id" and _is_event(delivery)):
        return written
    # What is no mapping may be called otherwise in JSON than in Python.
    if field in (value if isinstance(value, Mapping) else msgspec.json.decode(written)):
        raise PermanentError(f"the payload has {field!r} already; choose another {option}")
    pair = to_json(field) + b":" + to_json(delivery.id)
    return b"{" + pair + (b"," if written != b"{}" else b"") + written[1:]


def _is_event(delivery: Delivery) -> bool:
    return delivery.policy.serializer in EVENTS
