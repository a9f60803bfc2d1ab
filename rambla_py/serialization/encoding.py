"""Payloads as they go on the wire: bytes, or a value that JSON can hold."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from rambla_py._internal.import_paths import import_object
from rambla_py.errors import HandlerError, OptionError, SerializationError, nearest
from rambla_py.serialization.error_path import find_culprit, find_not_finite
from rambla_py.serialization.json_numbers import read_json, written_json
from rambla_py.serialization.own_forms import OwnFormError, final_form, plain, plain_for_json

__all__ = [
    "Format",
    "Nan",
    "Serializer",
    "as_object",
    "content_type_of",
    "dict_encoder",
    "encode",
    "serialize_by_name",
    "to_json",
    "usual_encoder",
]

Format = Literal["none", "object", "bytes"]
Nan = Literal["error", "null"]
Serializer = Callable[[Any], bytes]

_BINARY = (bytes, bytearray, memoryview)


_json = msgspec.json.Encoder(enc_hook=plain_for_json).encode
_msgpack = msgspec.msgpack.Encoder(enc_hook=plain).encode
_BUILT_IN: dict[str, Serializer] = {"json": _json, "msgpack": _msgpack}
# msgspec writes null for what is not finite; most JSON has no null at all. From the right it is found in half
# the time that ``find`` or a regular expression takes for text; ``in`` tries a number first.
_NULL = b"null"
_MEDIA_TYPES = {"json": "application/json", "msgpack": "application/msgpack"}
_OF_MESSAGES = frozenset({"cloudevents", "cloudevents-binary"})
"""Serializers that need the whole message, and live in ``wire``."""


def encode(
    payload: Any,
    *,
    format: Format = "none",  # noqa: A002
    serializer: str = "json",
    nan: Nan = "error",
) -> bytes:
    r"""Return the bytes of a payload for the wire.

    Bytes go as they are and text as UTF-8; anything else goes through ``serializer``: ``json``, ``msgpack``,
    or ``module:function``, which is given the payload and returns bytes or text. With ``format = "object"``
    the payload is first made an object, as ``as_object`` says; ``"none"`` and ``"bytes"`` are the same here.

    Dates, UUIDs, ``Decimal``, enums, dataclasses, attrs and msgspec classes are written as msgspec writes
    them: a ``Decimal`` as a string, bytes inside an object as base64, keys that are numbers as strings.
    Pydantic models, numpy values, paths and objects with ``__json__`` are written as ``own_form`` says.
    Integers of any size fit JSON; MessagePack ends at 64 bits. JSON has no NaN and no infinity: they are
    refused, or written as null with ``nan = "null"``; MessagePack keeps them.

    Raises ``SerializationError``, whose ``path`` leads to the value that could not be written. May be called
    from any thread.

    >>> encode({"id": 42}), encode("é"), encode(b"raw"), encode('{"id": 42}', format="object")
    (b'{"id":42}', b'\xc3\xa9', b'raw', b'{"id": 42}')
    """
    if format == "object":
        payload = as_object(payload, format="object", written=serializer == "json")
    kind = type(payload)
    if kind is bytes:
        return payload  # type: ignore[no-any-return]  # the exact type was compared
    # The commonest payload goes first: the checks below would double what it costs.
    if kind is dict and serializer == "json":
        return to_json(payload, nan=nan)
    if isinstance(payload, str):
        return _utf8(payload)
    if isinstance(payload, _BINARY):
        return _copied(payload)
    if serializer == "json":
        return to_json(payload, nan=nan)
    return _serialize(payload, serializer)


def usual_encoder(nan: Nan, slow: Serializer) -> Serializer:
    """Return a function that gives what ``slow`` does, sooner for bytes, strings and dicts.

    ``slow`` is ``encode`` with this ``nan`` and the defaults otherwise; it also makes the errors.
    """
    of_dict = dict_encoder(nan, slow)

    def quick(payload: Any) -> bytes:
        kind = type(payload)
        if kind is str:
            try:
                return payload.encode()  # type: ignore[no-any-return]  # the exact type was compared
            except UnicodeEncodeError:
                return slow(payload)
        return payload if kind is bytes else of_dict(payload)

    return quick


def dict_encoder(nan: Nan, slow: Serializer) -> Serializer:
    """Return a function that gives what ``slow`` does, sooner for dicts; it writes all of them as JSON."""
    json, null, refuses_nan = _json, _NULL, nan == "error"

    def quick(payload: Any) -> bytes:
        if type(payload) is not dict:
            return slow(payload)
        try:
            written = json(payload)
        except MemoryError:
            raise
        except Exception:
            return slow(payload)
        if refuses_nan and written.rfind(null) >= 0:
            _refuse_nan(payload)
        return written

    return quick


def as_object(
    payload: Any,
    *,
    format: Format = "none",  # noqa: A002
    serializer: str = "json",
    written: bool = False,
) -> Any:
    """Return the value that a handler embeds in JSON of its own: a line of a file, a row, a request of many.

    ``"none"``: text stays text, bytes become text (UTF-8), anything else stays what it is.
    ``"object"``: an object always. Text or bytes that hold JSON are read; what is then no object (a list, a
    number, text that is not JSON) is wrapped as ``{"value": ...}``.
    ``"bytes"``: the text of what ``encode`` gives.

    A serializer of the user's own is applied to what is neither text nor bytes, and its output read as JSON
    where it is JSON; the built-in ones leave such a value alone.

    JSON text that is read keeps the digits of its numbers: those that a float would round become
    ``JsonNumber``, a ``Decimal``. With ``written`` it is not read but becomes a ``msgspec.Raw``, which JSON
    holds as it was.

    Raises ``SerializationError`` for bytes that are not UTF-8, and for what a serializer refuses. A value
    that stays what it is has not been checked: ``to_json`` does that.

    >>> as_object('{"id": 42}'), as_object('{"id": 42}', format="object"), as_object([1], format="object")
    ('{"id": 42}', {'id': 42}, {'value': [1]})
    """
    if serializer in _OF_MESSAGES:
        raise _needs_message(serializer)
    if format == "bytes":
        return _text(encode(payload, serializer=serializer))
    if isinstance(payload, str):
        value: Any = payload
    elif isinstance(payload, _BINARY):
        value = _text(_copied(payload))
    elif serializer in _BUILT_IN:
        value = payload
    else:
        value = _read(_text(_serialize(payload, serializer)), written)
    return _objectified(value, written) if format == "object" else value


def content_type_of(kind: type, *, format: Format = "none", serializer: str = "json") -> str:  # noqa: A002
    """Return the media type of what ``encode`` gives for a payload of this type.

    Text is ``text/plain`` and bytes are ``application/octet-stream``, unless ``format = "object"`` made JSON
    of them; anything else is what its serializer writes, ``application/octet-stream`` for a user's own.

    >>> content_type_of(dict), content_type_of(str), content_type_of(str, format="object")
    ('application/json', 'text/plain', 'application/json')
    """
    if format != "object":
        if issubclass(kind, str):
            return "text/plain"
        if issubclass(kind, _BINARY):
            return "application/octet-stream"
    return _MEDIA_TYPES.get(serializer, "application/octet-stream")


def to_json(value: Any, *, nan: Nan = "error") -> bytes:
    r"""Return JSON for any value, strings included; raises ``SerializationError`` as ``encode`` does.

    >>> to_json("two\nlines")
    b'"two\\nlines"'
    """
    try:
        written = _json(value)
    except MemoryError:
        raise
    except Exception as error:
        raise _explained(value, _json, error, "json") from error
    if nan == "error" and written.rfind(_NULL) >= 0:
        _refuse_nan(value)
    return written


def _refuse_nan(value: Any) -> None:
    found = find_not_finite(value)
    if found is not None:
        raise SerializationError(*found)


@functools.lru_cache(maxsize=256)
def serialize_by_name(name: str) -> Serializer:
    r"""Return the function behind a serializer's name: ``json``, ``msgpack`` or ``module:function``.

    Raises ``OptionError`` for a name that is none of these, with the nearest one, and for what cannot be
    imported or called. What was found is kept.

    >>> serialize_by_name("msgpack")({"id": 42})
    b'\x81\xa2id*'
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if ":" not in name:
        close = nearest(name, _BUILT_IN)
        hint = f"did you mean {close!r}?" if close else "known are 'json', 'msgpack' and 'module:function'"
        raise OptionError("serializer", f"no serializer is called {name!r}; {hint}")
    try:
        found = import_object(name)
    except HandlerError as error:
        raise OptionError("serializer", f"{name!r}: {error.reason}") from error
    if not callable(found):
        raise OptionError(
            "serializer", f"{name!r} is not a function but a value of type {type(found).__name__!r}"
        )
    return _checked(name, found)


def _checked(name: str, function: Callable[[Any], Any]) -> Serializer:
    def dump(payload: Any) -> bytes:
        written = function(payload)
        if isinstance(written, bytes):
            return written
        if isinstance(written, str):
            return written.encode()
        if isinstance(written, _BINARY):
            return bytes(written)
        raise TypeError(f"expected bytes or text back, got a value of type {type(written).__name__!r}")

    return dump


def _needs_message(serializer: str) -> SerializationError:
    return SerializationError("$", f"serializer {serializer!r} needs a message, and here is a payload only")


def _serialize(payload: Any, serializer: str) -> bytes:
    if serializer in _OF_MESSAGES:
        raise _needs_message(serializer)
    try:
        dump = serialize_by_name(serializer)
    except OptionError as error:
        raise SerializationError("$", str(error)) from error
    try:
        return dump(payload)
    except (MemoryError, SerializationError):
        raise
    except Exception as error:
        raise _explained(payload, dump, error, serializer) from error


def _explained(payload: Any, dump: Serializer, error: Exception, serializer: str) -> SerializationError:
    if serializer in _BUILT_IN:
        return SerializationError(*find_culprit(payload, dump, error, serializer=serializer))
    # A function of the user's is not called again on parts that it was never meant for.
    return SerializationError("$", f"serializer {serializer!r} raised {type(error).__name__}: {error}")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise SerializationError("$", "text with a lone surrogate, which UTF-8 cannot hold") from error


def _copied(payload: bytes | bytearray | memoryview) -> bytes:
    try:
        return bytes(payload)
    except ValueError as error:
        raise SerializationError("$", f"a {type(payload).__name__} that cannot be read: {error}") from error


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SerializationError("$", "bytes that are not UTF-8, where JSON needs text") from error


def _read(text: str, written: bool) -> Any:
    try:
        return written_json(text) if written else read_json(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text


def _objectified(value: Any, written: bool) -> Any:
    if isinstance(value, str):
        value = _read(value, written)
    if isinstance(value, msgspec.Raw):
        return value if bytes(value).startswith(b"{") else {"value": value}
    return value if _is_object(value) else {"value": value}


def _is_object(value: Any) -> bool:
    kind = type(value)
    if (
        isinstance(value, (Mapping, msgspec.Struct))
        or hasattr(kind, "__dataclass_fields__")
        or hasattr(kind, "__attrs_attrs__")
    ):
        return True
    try:
        form = final_form(value)
    except OwnFormError:
        return True  # writing it raises this again, with the path
    return form is not value and _is_object(form)
