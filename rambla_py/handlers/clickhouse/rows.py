"""This module turns a payload into rows of JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from rambla_py.errors import PermanentError, SerializationError
from rambla_py.handlers._http.named import one_line, with_id
from rambla_py.wire import embedded

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["rows_of", "table_name"]


def rows_of(delivery: Delivery, id_column: str) -> list[bytes]:
    """Return the rows of a message: of an object, a list of objects, or JSON text of either.

    Text may also hold an object a line. Raises ``PermanentError`` for anything else, ``SerializationError``
    with the path to what JSON cannot hold.
    """
    value = embedded(delivery)
    if isinstance(value, str):
        value = _read(value)
    if not isinstance(value, list | tuple):
        return [_row(value, "$", delivery, id_column)]
    if not value:
        raise PermanentError("clickhouse has nothing to write: the list is empty")
    return [_row(one, f"$[{at}]", delivery, id_column) for at, one in enumerate(value)]


def table_name(table: str) -> str:
    r"""Return the quoted name of a table; raises ``PermanentError`` for what is none.

    >>> table_name("events"), table_name("shop.events")
    ('`events`', '`shop`.`events`')
    """
    parts = table.split(".")
    if len(parts) > 2 or not all(parts) or not table.isprintable():
        raise PermanentError(f"table: expected TABLE or DATABASE.TABLE, got {table!r}")
    return ".".join("`" + part.replace("\\", "\\\\").replace("`", "\\`") + "`" for part in parts)


def _row(value: Any, path: str, delivery: Delivery, id_column: str) -> bytes:
    try:
        row = one_line(value)
    except SerializationError as error:
        raise SerializationError(path + error.path.removeprefix("$"), error.got) from error
    if not row.startswith(b"{"):
        raise PermanentError(f"clickhouse takes an object or a list of objects, got {_kind(value)} at {path}")
    return with_id(row, value, delivery, field=id_column, option="id_column")


def _read(text: str) -> Any:
    data = text.encode(errors="replace")
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        lines: Sequence[Any] = _lines(data)
        if len(lines) < 2:
            raise PermanentError(f"clickhouse takes JSON text, and this is none: {error}") from None
        return lines


def _lines(data: bytes) -> list[Any]:
    try:
        return list(msgspec.json.Decoder().decode_lines(data))
    except (msgspec.DecodeError, RecursionError):
        return []


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
