"""The message's id as a field of the JSON object that it is sent as."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rambla_py.errors import PermanentError
from rambla_py.serialization.cloudevents import EVENTS
from rambla_py.serialization.encoding import to_json

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["one_line", "with_id"]

# Numbers, for `in` takes ten times as long with bytes.
_NEWLINE, _BACKSLASH = b"\n\\"


def one_line(written: bytes) -> bytes:
    r"""Return JSON on one line.

    >>> one_line(b'{"id":\n 42}')
    b'{"id":42}'
    """
    # Only JSON that the user wrote, given as msgspec.Raw, can contain a line break.
    return msgspec.json.format(written, indent=-1) if _NEWLINE in written else written


def with_id(written: bytes, delivery: Delivery, *, field: str, option: str) -> bytes:
    """Return a JSON value with the message's id as ``field``, if it is an object.

    A CloudEvent already has its id, as ``id``. Raises ``PermanentError``, which names the ``option``, if the
    object has a field of that name.
    """
    if not field or not written.startswith(b"{") or (field == "id" and _is_event(delivery)):
        return written
    key = to_json(field)
    # It is parsed only where the key may be in it; one with a backslash may be written in another way.
    if (written.find(key) >= 0 or _BACKSLASH in written) and field in msgspec.json.decode(written):
        raise PermanentError(f"the payload already has a field {field!r}; choose another {option}")
    pair = key + b":" + to_json(delivery.id)
    rest = written[1:].lstrip()
    return b"{" + pair + (b"" if rest.startswith(b"}") else b",") + rest


def _is_event(delivery: Delivery) -> bool:
    return delivery.policy.serializer in EVENTS
