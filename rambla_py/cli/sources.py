"""The sources of ``rambla publish``: files, compressed or not, and standard input."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, Literal, cast

import msgspec

from rambla_py.cli.csv_reader import csv_rows
from rambla_py.cli.message_reader import (
    BadLine,
    Item,
    Line,
    json_document,
    json_lines,
    looks_like_lines,
    plain_value,
)
from rambla_py.cli.record_reader import records

__all__ = ["ENDINGS", "Format", "Reading", "SeveralLinesError", "Source", "SourceError", "format_of"]

Format = Literal["csv", "tsv", "jsonl", "json", "record", "whole"]
"""How messages are read; ``"whole"``: all of it is one message."""

ENDINGS: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
}
"""Formats by the ending of a file's name, which may be followed by ``.gz``."""

_GZIP: Final = b"\x1f\x8b"


class SourceError(Exception):
    """Nothing more can be read from a source."""


class SeveralLinesError(Exception):
    """What was to be one message looks like JSON lines."""


class Reading(msgspec.Struct, frozen=True):
    """How a source is read: its format, and what belongs to it."""

    format: Format
    text: bool = False
    delimiter: str | None = None
    nulls: tuple[str, ...] = ("",)

    def items(self, stream: IO[bytes]) -> Iterator[Item]:
        """Yield the messages of a stream; raises ``ValueError`` where none can be read."""
        if self.format in ("csv", "tsv"):
            lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
            delimiter = self.delimiter or ("\t" if self.format == "tsv" else ",")
            return csv_rows(lines, delimiter=delimiter, nulls=self.nulls)
        if self.format == "record":
            return records(stream)
        if self.format == "json":
            return json_document(stream.read())
        if self.format == "jsonl":
            return json_lines(stream, text=self.text)
        return _whole(stream, self.text)


class Source:
    """Messages to publish, read as they are asked for, never all at once.

    ``position`` and ``size`` are in bytes of the file on disk; ``size`` is None if it is unknown. Iterating
    raises ``SourceError``.
    """

    def __init__(self, name: str, descriptor: int, reading: Reading) -> None:
        self.name, self._reading, self._stream = name, reading, _Counting(descriptor)
        self.size = self._stream.size

    @classmethod
    def of_file(cls, path: Path, reading: Reading) -> Source:
        """Open a file; raises ``OSError``."""
        return cls(str(path), os.open(path, os.O_RDONLY | os.O_CLOEXEC), reading)

    @classmethod
    def of_stdin(cls, reading: Reading) -> Source:
        """Read standard input."""
        # Its own descriptor: a reader that stops waiting for stdin must not hang on the lock of sys.stdin.
        return cls("stdin", os.dup(0), reading)

    @property
    def position(self) -> int:
        """How far reading has come, in bytes."""
        return self._stream.position

    def is_same_file(self, descriptor: int) -> bool:
        """Return whether a descriptor is open on the file that this reads."""
        return os.path.samestat(os.fstat(self._stream.fileno()), os.fstat(descriptor))

    def __iter__(self) -> Iterator[Item]:
        last = 0
        try:
            with io.BufferedReader(self._stream, 1 << 17) as stream:
                packed = stream.peek(2)[:2] == _GZIP
                plain = gzip.GzipFile(fileobj=stream) if packed else stream
                for item in self._reading.items(cast("IO[bytes]", plain)):
                    yield item
                    last = item.end
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"cannot be read after line {last:,}: {error}") from error
        except ValueError as error:
            raise SourceError(str(error)) from error


def format_of(path: Path) -> Format | None:
    """Return the format that a file's name tells, or None.

    >>> format_of(Path("flights.jsonl.gz")), format_of(Path("a.CSV")), format_of(Path("a.txt"))
    ('jsonl', 'csv', None)
    """
    name = path.name.lower().removesuffix(".gz")
    return next((known for ending, known in ENDINGS.items() if name.endswith(ending)), None)


def _whole(stream: IO[bytes], text: bool) -> Iterator[Item]:
    raw = stream.read().removeprefix(codecs.BOM_UTF8)
    if not raw:
        yield BadLine(1, "stdin is empty")
        return
    if not text and looks_like_lines(raw):
        raise SeveralLinesError
    yield Line(1, plain_value(raw, text=text))


class _Counting(io.FileIO):
    """A file that counts what was read of it, pipes included.

    Of a regular file it reads what was there when it was opened: the file may be where its messages go.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "rb")
        self.position = 0
        status = os.fstat(descriptor)
        self.size: int | None = None
        if stat.S_ISREG(status.st_mode):
            self.size = max(0, status.st_size - os.lseek(descriptor, 0, os.SEEK_CUR))

    def readinto(self, buffer: Any) -> int:
        """Read, and count."""
        room = memoryview(buffer)
        if self.size is not None:
            room = room[: self.size - self.position]
        count = super().readinto(room) or 0
        self.position += count
        return count
