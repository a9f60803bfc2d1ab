"""Messages read from CSV."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from rambla_py.cli.message_reader import BadLine, Item, Line

__all__ = ["csv_rows"]


def csv_rows(lines: Iterable[str], *, delimiter: str = ",", nulls: Collection[str] = ("",)) -> Iterator[Item]:
    r"""Yield a dict for each row, by the names in the header: strings, and None for what ``nulls`` lists.

    The lines are those of a file opened with ``newline=""`` and ``errors="surrogateescape"``. Raises
    ``ValueError`` when the header cannot be used.

    >>> list(csv_rows(["id,city\n", "1,Oslo\n", "2,\n"]))[1].payload
    {'id': '2', 'city': None}
    >>> list(csv_rows(["id,city\n", "2\n"]))
    [BadLine(number=2, reason='1 column, where the header has 2', last=None, raw=['2'])]
    """
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    names = _header(reader)
    empty = frozenset(nulls)
    while True:
        number = reader.line_num + 1
        row: list[str] | None = None
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
            yield BadLine(number, "not UTF-8", _last(number, reader.line_num), raw=_printable(row))
        else:
            yield _message(row, names, empty, number, _last(number, reader.line_num))


def _message(row: list[str], names: list[str], empty: frozenset[str], number: int, last: int | None) -> Item:
    if len(row) != len(names):
        columns = "1 column" if len(row) == 1 else f"{len(row):,} columns"
        return BadLine(number, f"{columns}, where the header has {len(names):,}", last, raw=row)
    if empty.isdisjoint(row):
        return Line(number, dict(zip(names, row, strict=True)), last)
    values = (None if value in empty else value for value in row)
    return Line(number, dict(zip(names, values, strict=True)), last)


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


def _printable(row: list[str] | None) -> list[str] | None:
    if row is None:
        return None
    return [
        value.encode("utf-8", "surrogateescape").decode("utf-8", errors="backslashreplace") for value in row
    ]


def _last(first: int, now: int) -> int | None:
    return now if now > first else None
