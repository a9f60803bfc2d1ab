"""JSON for databases: decimals are numbers, and floats that are not finite are strings."""

from __future__ import annotations

import decimal
import re
from typing import Any

import msgspec

from rambla_py.serialization.encoding import Nan, to_json
from rambla_py.serialization.error_path import find_not_finite
from rambla_py.serialization.json_numbers import read_json
from rambla_py.serialization.own_forms import plain, plain_for_json

__all__ = ["to_table_json"]

_write = msgspec.json.Encoder(enc_hook=plain_for_json, decimal_format="number").encode
# null is what a float that is not finite becomes, NaN and Infinity what a Decimal does.
_find_null, _find_nan, _find_infinity = (
    re.compile(word).search for word in (rb"null", rb"NaN", rb"Infinity")
)


def to_table_json(value: Any, *, nan: Nan = "error") -> bytes:
    """Return JSON as ``to_json`` does, with decimals as numbers, and ``"inf"``, ``"-inf"``, ``"nan"``.

    With ``nan = "null"`` what is not finite is null. Raises ``SerializationError``.

    >>> to_table_json({"price": decimal.Decimal("1.10"), "ratio": float("inf")})
    b'{"price":1.10,"ratio":"inf"}'
    """
    try:
        written = _write(value)
    except MemoryError:
        raise
    except Exception:
        return to_json(value, nan="null")  # it raises the error, with the path
    if _find_nan(written) or _find_infinity(written) or (_find_null(written) and find_not_finite(value)):
        builtin = msgspec.to_builtins(value, builtin_types=(decimal.Decimal,), str_keys=True, enc_hook=_read)
        return _write(_finite(builtin, nan))
    return written


def _read(value: Any) -> Any:
    return read_json(bytes(value)) if isinstance(value, msgspec.Raw) else plain(value)


def _finite(value: Any, nan: Nan) -> Any:
    """Return plain data in which nothing is infinite or NaN."""
    if isinstance(value, dict):
        return {key: _finite(item, nan) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item, nan) for item in value]
    if not isinstance(value, (float, decimal.Decimal)) or decimal.Decimal(value).is_finite():
        return value
    if nan == "null":
        return None
    if decimal.Decimal(value).is_nan():
        return "nan"
    return "inf" if value > 0 else "-inf"
