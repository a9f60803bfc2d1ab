"""Rows of JSON made of a payload."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rambla_py.errors import PermanentError, SerializationError
from rambla_py.handlers._http.id_field import one_line, with_id

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["quoted_name", "rows_of", "table_name"]

_LONGEST_TABLE = 500


def rows_of(delivery: Delivery, id_column: str) -> list[bytes]:
    """Return the rows of a message: of an object, a list of objects, or JSON of either as a string.

    A string may also contain one object a line. Raises ``PermanentError`` for anything else,
    ``SerializationError`` with the path to what JSON cannot hold.
    """
    written = delivery.body()
    if written.startswith(b'"'):
        written = _unquoted(msgspec.json.decode(written, type=str))
    if not written.startswith(b"["):
        return [_row(written, "$", delivery, id_column)]
    rows = msgspec.json.decode(written, type=list[msgspec.Raw])
    if not rows:
        raise PermanentError("the list of rows is empty")
    return [_row(bytes(row).strip(), f"$[{at}]", delivery, id_column) for at, row in enumerate(rows)]


def table_name(table: str) -> str:
    r"""Return the quoted name of a table; raises ``PermanentError`` for anything else.

    >>> table_name("events"), table_name("shop.events")
    ('`events`', '`shop`.`events`')
    """
    parts = table[: _LONGEST_TABLE + 1].split(".")
    if len(table) > _LONGEST_TABLE or len(parts) > 2 or not all(parts) or not table.isprintable():
        raise PermanentError(f"table: expected TABLE or DATABASE.TABLE, got {table[:100]!r}")
    return ".".join(map(quoted_name, parts))


def quoted_name(name: str) -> str:
    """Return one name as SQL quotes it.

    >>> quoted_name("total")
    '`total`'
    """
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _row(written: bytes, path: str, delivery: Delivery, id_column: str) -> bytes:
    if not written.startswith(b"{"):
        raise PermanentError(f"expected an object or a list of objects, got {_kind(written)} at {path}")
    return with_id(one_line(written), delivery, field=id_column, option="id_column")


def _unquoted(text: str) -> bytes:
    """Return the JSON that a string holds: one value, or an object a line as a list."""
    try:
        written = text.encode().strip()
    except UnicodeError:
        raise SerializationError("$", "a string with a lone surrogate, which UTF-8 cannot encode") from None
    try:
        msgspec.json.decode(written)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        lines = _lines(written)
        if len(lines) < 2:
            raise PermanentError("expected JSON, got a string that is not JSON") from None
        return b"[" + b",".join(lines) + b"]"
    return written


def _lines(written: bytes) -> list[msgspec.Raw]:
    try:
        return list(msgspec.json.Decoder(msgspec.Raw).decode_lines(written))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return []


def _kind(written: bytes) -> str:
    value = msgspec.json.decode(written)
    return "null" if value is None else type(value).__name__
