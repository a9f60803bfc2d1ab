"""What the command line of ``rambla publish`` asks for, checked."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import typer

from rambla_py.cli.message_reader import Item, Line, plain_value
from rambla_py.cli.option_values import read_options
from rambla_py.cli.rejects import RejectFile
from rambla_py.cli.sources import ENDINGS, Format, Reading, Source, format_of

__all__ = ["FormatName", "Wanted", "checked", "open_rejects", "open_source"]


class FormatName(StrEnum):
    """What ``--format`` may be."""

    csv = "csv"
    tsv = "tsv"
    jsonl = "jsonl"
    json = "json"
    record = "record"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for. ``message`` and ``file`` are None for stdin."""

    channel: str | None
    message: str | None
    file: Path | None
    reading: Reading
    options: dict[str, Any]
    key: str | None
    skip: int
    rejects: Path | None
    strict: bool
    connect_timeout_s: float
    timeout_s: float
    verbose: bool

    @property
    def is_many(self) -> bool:
        """Whether the input is lines, rows or records, rather than one message."""
        return self.reading.format != "whole"


def checked(
    *,
    channel: str | None,
    message: str | None,
    file: Path | None,
    format: FormatName | None,  # noqa: A002
    options: list[str],
    text: bool,
    lines: bool,
    delimiter: str | None,
    nulls: list[str] | None,
    **rest: Any,
) -> Wanted:
    """Return what was asked for; raises ``typer.BadParameter`` for what does not go together."""
    if channel == "-" and message is None and file is None:  # the channel was left out
        channel, message = None, "-"
    stdin = message == "-" or (file is not None and str(file) == "-")
    if message is not None and file is not None:
        raise typer.BadParameter("give a MESSAGE or --from FILE, not both")
    if message is None and file is None:
        raise typer.BadParameter("give a MESSAGE, '-' for stdin, or --from FILE")
    delimiter = {"tab": "\t", "\\t": "\t"}.get(delimiter or "", delimiter)
    wanted = Wanted(
        channel=channel,
        message=None if stdin else message,
        file=None if stdin else file,
        reading=Reading(
            _format(
                message, file, None if format is None else format.value, lines=lines, delimiter=delimiter
            ),
            text,
            delimiter,
            ("",) if nulls is None else tuple(nulls),
        ),
        options=_options(options),
        **rest,
    )
    _check(wanted, lines=lines, stdin=message == "-", nulls=nulls)
    return wanted


def open_source(wanted: Wanted) -> tuple[str, Iterable[Item]]:
    """Open what is to be read; returns how it is called in reports."""
    if wanted.message is not None:
        payload = plain_value(os.fsencode(wanted.message), text=wanted.reading.text)
        return "MESSAGE", iter([Line(1, payload)])
    if wanted.file is None:
        return "stdin", Source.of_stdin(wanted.reading)
    try:
        return str(wanted.file), Source.of_file(wanted.file, wanted.reading)
    except OSError as error:
        raise typer.BadParameter(f"{wanted.file}: {error.strerror}", param_hint="--from") from error


def open_rejects(wanted: Wanted, source: Iterable[Item]) -> RejectFile | None:
    """Open the file of ``--rejects``, where one is asked for."""
    if wanted.rejects is None:
        return None
    try:
        kept = RejectFile(wanted.rejects)
    except OSError as error:
        raise typer.BadParameter(f"{wanted.rejects}: {error.strerror}", param_hint="--rejects") from error
    if isinstance(source, Source) and source.is_same_file(kept.descriptor):
        kept.close()
        raise typer.BadParameter("this is the file that is read", param_hint="--rejects")
    return kept


def _options(given: list[str]) -> dict[str, Any]:
    try:
        return read_options(given)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--option") from error


def _format(
    message: str | None, file: Path | None, name: Format | None, *, lines: bool, delimiter: str | None
) -> Format:
    """Return how the input is read; by default as the file's name says, and stdin as one message."""
    if name is not None:
        return name
    if file is None:
        return "jsonl" if message == "-" and lines else "whole"
    known = format_of(file)
    if known is None and delimiter is not None:
        return "csv"
    if known is None:
        raise typer.BadParameter(
            f"{file}: its name does not end in {', '.join(ENDINGS)}; say how to read it with --format",
            param_hint="--from",
        )
    return known


def _check(wanted: Wanted, *, lines: bool, stdin: bool, nulls: list[str] | None) -> None:
    reading, one = wanted.reading, wanted.message is not None
    csv = reading.format in ("csv", "tsv")
    wrong = {
        "give a CHANNEL; only --format record has targets of its own": wanted.channel is None
        and reading.format != "record",
        "--format goes with '-' or --from FILE": one and wanted.is_many,
        "--lines goes with '-', for stdin": lines and not stdin,
        "--lines and --format say the same": lines and reading.format != "jsonl",
        "--delimiter and --null go with CSV: add --format csv": not csv
        and (reading.delimiter is not None or nulls is not None),
        "--delimiter: expected one character": reading.delimiter is not None
        and not _separates(reading.delimiter),
        "--text goes with a MESSAGE, '-' and JSON lines": reading.text
        and reading.format not in ("whole", "jsonl"),
        "--key needs fields, which --text has none of": reading.text and wanted.key is not None,
        "--key and --option key=... say the same": wanted.key is not None and "key" in wanted.options,
        "--skip and --rejects go with files, or with '-' and --lines or --format": not wanted.is_many
        and (wanted.skip > 0 or wanted.rejects is not None),
        f"there is a file {wanted.message!r}: --from publishes what is in it, --text sends its name": one
        and _is_file(wanted.message or "", text=reading.text),
    }
    for reason, applies in wrong.items():
        if applies:
            raise typer.BadParameter(reason)


def _separates(delimiter: str) -> bool:
    return len(delimiter) == 1 and delimiter not in '"\r\n'


def _is_file(message: str, *, text: bool) -> bool:
    """Whether a message that is no JSON is the name of a file."""
    if text or not isinstance(plain_value(os.fsencode(message)), str):
        return False
    try:
        mode = os.stat(message).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode)
