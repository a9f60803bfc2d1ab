"""Messages read from records, as a ``file`` channel with ``record = "full"`` and ``--rejects`` write them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from rambla_py.cli.message_reader import BadLine, Item, Line, numbered, shown, why
from rambla_py.serialization.json_numbers import read_json

__all__ = ["records"]


class _Origin(msgspec.Struct):
    target: str


class _Record(msgspec.Struct):
    """What is read of a record; other keys tell a person how it came to be."""

    payload: msgspec.Raw | UnsetType = UNSET
    id: str | None = None
    key: str | None = None
    headers: dict[str, Any] = {}
    service: str | None = None
    channel: str | None = None
    origin: _Origin | None = None
    raw: Any = None


def records(lines: Iterable[bytes]) -> Iterator[Item]:
    r"""Yield the message of each record, with its id, key and headers, and the target that it was for.

    That is the target of ``origin``, or else ``service.channel``.

    >>> line = b'{"id": "7", "origin": {"target": "amqp.orders"}, "payload": {"n": 1}}\n'
    >>> [(one.payload, one.options, one.target) for one in records([line])]
    [({'n': 1}, {'id': '7'}, 'amqp.orders')]
    """
    decode = msgspec.json.Decoder(_Record).decode
    for number, line in numbered(lines):
        try:
            record = decode(line)
        except msgspec.ValidationError as error:
            yield BadLine(number, f"not a record: {error}", raw=shown(line))
        except (ValueError, RecursionError) as error:
            yield BadLine(number, why(error), raw=shown(line))
        else:
            yield _item(number, record, line)


def _item(number: int, record: _Record, line: bytes) -> Item:
    if record.raw is not None and record.payload is UNSET:
        return BadLine(number, "a row that could not be read: correct it in its own file", raw=record.raw)
    if isinstance(record.payload, UnsetType):
        return BadLine(number, "not a record: it has no 'payload'", raw=shown(line))
    given = {"id": record.id, "key": record.key, "headers": record.headers}
    target = f"{record.service}.{record.channel}" if record.service and record.channel else None
    if record.origin is not None:
        target = record.origin.target
    return Line(
        number,
        read_json(record.payload),
        options={name: value for name, value in given.items() if value},
        target=target,
    )
