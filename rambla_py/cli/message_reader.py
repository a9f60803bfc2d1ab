"""Messages read from JSON and JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from rambla_py.serialization.json_numbers import read_json

__all__ = ["BadLine", "Item", "Line", "json_document", "json_lines", "key_at", "plain_value"]

BOM: Final = b"\xef\xbb\xbf"
_NONE: Final[Mapping[str, Any]] = {}


class Line(NamedTuple):
    """A message, the line it begins on, and the line it ends on if that is another.

    A record also has ``options`` (``id``, ``key``, ``headers``) and the ``target`` that it was for.
    """

    number: int
    payload: Any
    last: int | None = None
    options: Mapping[str, Any] = _NONE
    target: str | None = None

    @property
    def end(self) -> int:
        """The line it ends on."""
        return self.number if self.last is None else self.last


class BadLine(NamedTuple):
    """A line that is no message; ``last`` is the line it ends on if that is another, ``raw`` its content."""

    number: int
    reason: str
    last: int | None = None
    raw: Any = None

    @property
    def end(self) -> int:
        """The line it ends on."""
        return self.number if self.last is None else self.last


Item = Line | BadLine


def plain_value(raw: bytes, *, text: bool = False) -> Any:
    r"""Return the payload of an argument: a JSON value where it is JSON, else a string, else the bytes.

    With ``text`` it is not read as JSON. A byte order mark is skipped.

    >>> plain_value(b'{"id": 42}'), plain_value(b"42", text=True), plain_value(b"hi"), plain_value(b"\xff")
    ({'id': 42}, '42', 'hi', b'\xff')
    """
    if not text:
        try:
            return read_json(raw.removeprefix(BOM))
        except (ValueError, RecursionError):
            pass
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw


def json_lines(lines: Iterable[bytes], *, text: bool = False) -> Iterator[Item]:
    r"""Yield a message for each line, empty ones left out; with ``text`` the line itself.

    >>> [*json_lines([b'{"a": 1}\n', b"\n", b"oops\n"])][1]
    BadLine(number=3, reason='not JSON: invalid character (byte 0)', last=None, raw='oops')
    """
    decode = bytes.decode if text else read_json
    for number, line in numbered(lines):
        try:
            yield Line(number, decode(line))
        except (ValueError, RecursionError) as error:
            yield BadLine(number, why(error), raw=shown(line))


def json_document(raw: bytes) -> Iterator[Item]:
    """Yield the elements of a JSON array, numbered from 1, or the one value that is no array.

    Raises ``ValueError`` if it is not one JSON document.

    >>> [line.payload for line in json_document(b'[{"id": 1}, {"id": 2}]')]
    [{'id': 1}, {'id': 2}]
    """
    try:
        value = read_json(raw.removeprefix(BOM))
    except (ValueError, RecursionError) as error:
        hint = "; if each line is a message, --format jsonl" if looks_like_lines(raw) else ""
        raise ValueError(f"{why(error)}{hint}") from None
    for number, payload in enumerate(value if isinstance(value, list) else [value], 1):
        yield Line(number, payload)


def looks_like_lines(raw: bytes) -> bool:
    r"""Return whether these bytes are JSON objects or arrays, one a line, rather than one document.

    >>> looks_like_lines(b'{"id": 1}\n{"id": 2}\n'), looks_like_lines(b'{"id":\n1}')
    (True, False)
    """
    first = [line for _, line in zip(range(2), _filled(raw), strict=False)]
    return len(first) == 2 and all(isinstance(plain_value(line), dict | list) for line in first)


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
    kinds = {bool: "a boolean", list: "an array", dict: "an object"}
    kind = kinds.get(type(value), "a number with a fraction")
    raise ValueError(f"no key: {path!r} is {kind}, not a string or an integer")


def numbered(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield lines that are not empty with their numbers, without byte order mark and line break."""
    for number, raw in enumerate(lines, 1):
        line = (raw.removeprefix(BOM) if number == 1 else raw).rstrip(b"\r\n")
        if line.strip():
            yield number, line


def why(error: Exception) -> str:
    """Return why a line could not be read as JSON or text."""
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, RecursionError):
        return "not JSON: nested too deeply"
    reason = str(error).removeprefix("JSON is malformed: ").removeprefix("Input data was ")
    return f"not JSON: {reason}"


def shown(line: bytes) -> str:
    """Return a line that is no message as a string, for a person to correct."""
    return line.decode(errors="backslashreplace")


def _filled(raw: bytes) -> Iterator[bytes]:
    return (line for _, line in numbered(raw.splitlines()))


def _value_at(payload: Any, path: str) -> Any:
    value = payload
    if isinstance(value, dict) and path in value:
        return value[path]
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            raise ValueError(f"no key: there is no field {path!r}")
        value = value[name]
    return value
