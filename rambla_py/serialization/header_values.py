"""Values of headers, as a backend holds them or as text."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import msgspec

from rambla_py.errors import SerializationError
from rambla_py.serialization.capture import captured
from rambla_py.serialization.encoding import to_json
from rambla_py.serialization.own_forms import OwnFormError, final_form

__all__ = ["ANY_JSON", "header_text", "header_value"]

ANY_JSON: Final = (type(None), list, dict)
"""What a handler holds whose headers become JSON, or stay in memory."""

_ARRAYS = (list, tuple, set, frozenset)


def header_value(value: Any, kinds: tuple[type, ...]) -> Any:
    """Return a header's value for a handler that holds ``kinds`` beside strings, numbers, booleans and bytes.

    Any other value becomes text: a list and a table as JSON, anything else as JSON writes it, without quotes.
    None stays None. Containers are copied. Raises ``ValueError`` for what JSON cannot hold.

    >>> header_value(["a", 1], ()), header_value(["a", 1], (list,))
    ('["a",1]', ['a', 1])
    """
    try:
        return _plain(captured(value), kinds)
    except SerializationError as error:
        raise ValueError(error.got if error.path == "$" else f"{error.path}: {error.got}") from error
    except OwnFormError as error:
        raise ValueError(str(error)) from error
    except UnicodeEncodeError:
        raise ValueError("a lone surrogate, which UTF-8 cannot encode") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def header_text(value: Any) -> str:
    """Return a value as text: a string unchanged, anything else as JSON, a string in it without quotes.

    Raises ``SerializationError``.

    >>> header_text(True), header_text(2.5), header_text({"a": None})
    ('true', '2.5', '{"a":null}')
    """
    if isinstance(value, str):
        return str.__str__(value)
    written = to_json(value)
    return msgspec.json.decode(written, type=str) if written.startswith(b'"') else written.decode()


def _plain(value: Any, kinds: tuple[type, ...]) -> Any:
    value = final_form(value.value if isinstance(value, Enum) else value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, Mapping) and dict in kinds:
        return {_text(header_text(key)): _plain(item, kinds) for key, item in value.items()}
    if isinstance(value, _ARRAYS) and list in kinds:
        return [_plain(item, kinds) for item in value]
    return value if isinstance(value, kinds) else header_text(value)


def _text(value: str) -> str:
    """Return a plain string; raises ``UnicodeEncodeError`` for a lone surrogate."""
    value.encode()
    return str.__str__(value)
