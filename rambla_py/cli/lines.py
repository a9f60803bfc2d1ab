"""This module reads messages out of texts: JSON, JSON lines, CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

__all__ = ["BadLine", "Item", "Line", "csv_rows", "json_lines", "key_at", "plain_value"]


class Line(NamedTuple):
    """A message, and the line it began on."""

    number: int
    payload: Any


class BadLine(NamedTuple):
    """A line that is no message; ``last`` is the line it ends on, where that is another."""

    number: int
    reason: str
    last: int | None = None


Item = Line | BadLine


def plain_value(raw: bytes, *, text: bool = False) -> Any:
    r"""Return what a message stands for: a JSON value where it is JSON, else a text, else the bytes.

    With ``text`` it is not read as JSON.

    >>> plain_value(b'{"id": 42}'), plain_value(b"42", text=True), plain_value(b"hi"), plain_value(b"\xff")
    ({'id': 42}, '42', 'hi', b'\xff')
    """
    if not text:
        try:
            return msgspec.json.decode(raw)
        except (ValueError, RecursionError):
            pass
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def json_lines(lines: Iterable[bytes], *, text: bool = False) -> Iterator[Item]:
    r"""Yield a message for each line, empty ones left out; with ``text`` the line itself.

    >>> [*json_lines([b'{"a": 1}\n', b"\n", b"oops\n"])][1]
    BadLine(number=3, reason='not JSON: invalid character (byte 0)', last=None)
    """
    decode = bytes.decode if text else msgspec.json.Decoder().decode
    for number, raw in enumerate(lines, 1):
        line = (raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).rstrip(b"\r\n")
        if not line.strip():
            continue
        try:
            yield Line(number, decode(line))
        except (ValueError, RecursionError) as error:
            yield BadLine(number, _why(error))


def csv_rows(lines: Iterable[str], *, delimiter: str = ",") -> Iterator[Item]:
    r"""Yield a dict of texts for each row, by the names in the header.

    The lines are those of a file opened with ``newline=""`` and ``errors="surrogateescape"``. Raises
    ``ValueError`` when the header cannot be used.

    >>> list(csv_rows(["id,city\n", "1,Oslo\n", "2\n"]))[1:]
    [BadLine(number=3, reason='1 column, where the header has 2', last=None)]
    """
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    names = _header(reader)
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader)
            if not row:
                continue
            "".join(row).encode()
        except StopIteration:
            return
        except csv.Error as error:
            yield BadLine(number, f"not CSV: {error}", _last(number, reader.line_num))
        except UnicodeEncodeError:
            yield BadLine(number, "not UTF-8", _last(number, reader.line_num))
        else:
            if len(row) == len(names):
                yield Line(number, dict(zip(names, row, strict=True)))
            else:
                columns = "1 column" if len(row) == 1 else f"{len(row):,} columns"
                reason = f"{columns}, where the header has {len(names):,}"
                yield BadLine(number, reason, _last(number, reader.line_num))


def key_at(payload: Any, path: str) -> str:
    """Return the key that stands at a dotted path; raises ``ValueError`` where there is none.

    A name with dots in it is found too, before the path is taken apart.

    >>> key_at({"customer": {"id": 7}}, "customer.id")
    '7'
    """
    value = _value_at(payload, path)
    if value is None or value == "":
        raise ValueError(f"no key: {path!r} is {'null' if value is None else 'empty'}")
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    kinds = {bool: "true or false", float: "a number with a fraction", list: "a list", dict: "an object"}
    raise ValueError(f"no key: {path!r} is {kinds[type(value)]}, not a text or a whole number")


def _value_at(payload: Any, path: str) -> Any:
    value = payload
    if isinstance(value, dict) and path in value:
        return value[path]
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            raise ValueError(f"no key: there is no field {path!r}")
        value = value[name]
    return value


def _header(reader: Any) -> list[str]:
    try:
        names: list[str] = next(reader)
        "".join(names).encode()
    except StopIteration:
        raise ValueError("the file is empty; its first line must name the columns") from None
    except UnicodeEncodeError:
        raise ValueError("line 1: the names of the columns are not UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"line 1: not CSV: {error}") from None
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or "" in names:
        raise ValueError("line 1: a column has no name; the first line must name all of them")
    if twice:
        raise ValueError(f"line 1: {twice[0]!r} names more than one column")
    return names


def _why(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, RecursionError):
        return "not JSON: nested too deeply"
    reason = str(error).removeprefix("JSON is malformed: ").removeprefix("Input data was ")
    return f"not JSON: {reason}"


def _last(first: int, now: int) -> int | None:
    return now if now > first else None
