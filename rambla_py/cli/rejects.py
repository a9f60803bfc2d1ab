"""The rows that were refused: reported by line, and kept in a file of records."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from rambla_py.cli.message_reader import BadLine, Line
from rambla_py.errors import RamblaError
from rambla_py.outcome import Outcome
from rambla_py.serialization.encoding import to_json

__all__ = ["RejectFile", "Rejects", "RejectsError"]

SHOWN: Final = 20
"""Refused rows that are printed one by one, unless all are."""

LISTED: Final = 1_000
"""Refused rows in the JSON report."""


class RejectsError(RamblaError):
    """The file of ``--rejects`` cannot be written."""


class RejectFile:
    """A file of ``--rejects``, which ``--format record`` reads; what it holds already stays.

    It is not there afterwards if it was not there before and nothing was refused. The constructor raises
    ``OSError``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = open(path, "ab")  # noqa: SIM115 - closed by close()
        self._is_empty = self._file.tell() == 0

    @property
    def descriptor(self) -> int:
        """The descriptor of the open file."""
        return self._file.fileno()

    def write(self, record: dict[str, Any]) -> None:
        """Append a record; raises ``RejectsError``."""
        line = to_json({name: value for name, value in record.items() if value is not None})
        try:
            self._file.write(line + b"\n")
            self._file.flush()
        except OSError as error:
            raise RejectsError(f"{self._path}: the refused rows cannot be kept: {error.strerror}") from error
        self._is_empty = False

    def close(self) -> None:
        """Close the file; an empty one is removed."""
        self._file.close()
        if self._is_empty and self._path.is_file():
            os.unlink(self._path)


class Rejects:
    """Reports each row that was refused, and keeps it: the first rows for the JSON report, all in a file.

    ``show`` prints a line; by default for the first 20 rows that a target refused.
    """

    def __init__(
        self, source: str, *, file: RejectFile | None, show: Callable[[str], None], everything: bool = False
    ) -> None:
        self.rows: list[dict[str, Any]] = []
        self.number = 0
        self._source, self._file, self._show, self._everything = source, file, show, everything
        self._shown = 0

    @property
    def all_shown(self) -> bool:
        """Whether every refused row was printed."""
        return self._shown == self.number

    def add_line(self, bad: BadLine, *, keep: bool = True) -> None:
        """Report a line that is no message; it is kept unless the command ends with it."""
        self._list(bad.number, None, None, "invalid", bad.reason)
        self._shown += 1
        until = f"-{bad.last}" if bad.last else ""
        self._show(f"{self._source}:{bad.number}{until}: {bad.reason}")
        if self._file is not None and keep:
            self._file.write(
                {"file": self._source, "line": bad.number, "error": bad.reason, "raw": bad.raw or ""}
            )

    def add_outcome(self, line: Line, outcome: Outcome, why: str) -> None:
        """Report a message that a target refused."""
        target = f"{outcome.service}.{outcome.channel}"
        status = outcome.final.status
        self._list(line.number, outcome.message_id, target, status, why)
        if self._everything or self._shown < SHOWN:
            self._shown += 1
            self._show(f"{self._source}:{line.number}: {target} {status}: {why} (id {outcome.message_id})")
        if self._file is not None:
            self._file.write(_record(self._source, line, outcome, target, why))

    def _list(self, line: int, message_id: str | None, target: str | None, status: str, error: str) -> None:
        self.number += 1
        if len(self.rows) < LISTED:
            self.rows.append(
                {
                    "file": self._source,
                    "line": line,
                    "id": message_id,
                    "target": target,
                    "status": status,
                    "error": error,
                }
            )


def _record(source: str, line: Line, outcome: Outcome, target: str, why: str) -> dict[str, Any]:
    """Return what a ``file`` channel with ``record = "full"`` writes, with the row's place."""
    return {
        "id": outcome.message_id,
        "file": source,
        "line": line.number,
        "origin": {"service": outcome.service, "channel": outcome.channel, "target": target},
        "status": outcome.final.status,
        "error": why,
        "attempts": outcome.attempts,
        "key": line.options.get("key"),
        "headers": line.options.get("headers"),
        "payload": msgspec.Raw(to_json(line.payload)),
    }
