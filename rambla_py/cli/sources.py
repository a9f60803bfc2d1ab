"""This module opens what ``rambla publish`` reads from: files, packed or not, and stdin."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, cast

from rambla_py.cli.lines import BadLine, Item, Line, csv_rows, json_lines, plain_value

__all__ = ["FORMATS", "Source", "SourceError", "format_of", "from_file", "from_stdin", "from_text"]

FORMATS: Final = (".jsonl", ".ndjson", ".csv")
"""Endings of files that can be read, each also with ``.gz``."""


class SourceError(Exception):
    """Nothing more can be read from a source."""


class Source:
    """Messages to publish, read as they are asked for, never all at once.

    ``position`` and ``size`` are in bytes of the file as it lies on the disk; ``size`` is None where nobody
    knows it. ``items`` raises ``SourceError``.
    """

    def __init__(self, name: str, items: Callable[[IO[bytes]], Iterator[Item]], stream: _Counting) -> None:
        self.name, self._items, self._stream = name, items, stream
        self.size = stream.size

    @property
    def position(self) -> int:
        """How far reading has come, in bytes."""
        return self._stream.position

    def __iter__(self) -> Iterator[Item]:
        last = 0
        try:
            with io.BufferedReader(self._stream, 1 << 17) as stream:
                for item in self._items(cast("IO[bytes]", stream)):
                    yield item
                    last = item.number
        except ValueError as error:
            raise SourceError(str(error)) from error
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"cannot be read after line {last:,}: {error}") from error


def format_of(path: Path) -> str | None:
    """Return the format that a file's name tells, or None.

    >>> format_of(Path("flights.jsonl.gz")), format_of(Path("a.CSV")), format_of(Path("a.txt"))
    ('.jsonl', '.csv', None)
    """
    name = path.name.lower().removesuffix(".gz")
    return next((ending for ending in FORMATS if name.endswith(ending)), None)


def from_file(path: Path, *, text: bool = False, delimiter: str = ",") -> Source:
    """Return the lines of a file whose name ends as ``FORMATS`` say. Raises ``OSError``."""
    opened = _Counting(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    packed = path.name.lower().endswith(".gz")

    def items(stream: IO[bytes]) -> Iterator[Item]:
        plain = cast("IO[bytes]", gzip.GzipFile(fileobj=stream)) if packed else stream
        if format_of(path) != ".csv":
            return json_lines(plain, text=text)
        lines = io.TextIOWrapper(plain, encoding="utf-8-sig", errors="surrogateescape", newline="")
        return csv_rows(lines, delimiter=delimiter)

    return Source(path.name, items, opened)


def from_stdin(*, lines: bool = False, text: bool = False) -> Source:
    """Return what comes on stdin: a message for each line, or all of it as one."""

    def items(stream: IO[bytes]) -> Iterator[Item]:
        return json_lines(stream, text=text) if lines else _whole(stream, text)

    # A descriptor of its own: whoever stops waiting for stdin must not hang on the lock of sys.stdin.
    return Source("stdin", items, _Counting(os.dup(0)))


def from_text(message: str, *, text: bool = False) -> Iterator[Item]:
    """Yield the one message that was given as an argument."""
    yield Line(1, plain_value(os.fsencode(message), text=text))


def _whole(stream: IO[bytes], text: bool) -> Iterator[Item]:
    raw = stream.read()
    if raw:
        yield Line(1, plain_value(raw, text=text))
    else:
        yield BadLine(1, "stdin is empty")


class _Counting(io.FileIO):
    """A file that knows how much of it was read, pipes included."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "rb")
        self.position = 0
        self.size = os.fstat(descriptor).st_size or None

    def readinto(self, buffer: Any) -> int:
        """Read, and count."""
        count = super().readinto(buffer) or 0
        self.position += count
        return count
