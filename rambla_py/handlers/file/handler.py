"""The ``file`` handler."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.errors import SerializationError
from rambla_py.handler import Handler, Preflight, State
from rambla_py.handlers._record import json_line
from rambla_py.handlers.file.connection import FileConnection
from rambla_py.handlers.file.settings import FileOptions, FileSettings
from rambla_py.serialization.header_values import ANY_JSON
from rambla_py.telemetry.records import target_extra

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["FileHandler"]


class FileHandler(Handler):
    """Appends one line of JSON for each message; the first one creates file and folder. POSIX only.

    Any number of workers and processes may append to one path: a batch is one write under the file's lock.
    A line that could not be written whole is taken back; if a process is killed during a write, the next
    write ends the cut line, so that it spoils no other. ``fsync = "batch"`` waits for the disk before the
    messages of a batch count as delivered, ``"always"`` after each line, ``"never"`` leaves it to the system.
    Other programs (logrotate) may move the file away: the next batch creates a new one.

    A file that would grow over ``rotate_bytes``, or whose first line is ``rotate_s`` old when a message
    comes, is renamed to ``name.20130101T120000Z.0001.jsonl``, and compressed in the background.

    Delivery: at least once. A message is written again, as another line with the same id, when the disk
    did not confirm a write (``UnknownOutcomeError``), or when a worker died before it could answer. One
    worker keeps the order of its batches; a line that failed may come after later ones. A full disk is an
    ``UnavailableError``: messages wait. A refused path is an ``AccessError``. A payload with bytes that are
    not UTF-8, or that JSON cannot hold, is refused by ``publish``.
    """

    Connection: ClassVar[Any] = FileSettings
    Options: ClassVar[Any] = FileOptions
    takes = "json"
    header_types: ClassVar[tuple[type, ...]] = ANY_JSON
    guarantee: ClassVar[str] = (
        "at least once; a line may occur twice after a failed fsync; a worker keeps the order of batches"
    )
    ordered = False

    def connect(self) -> FileConnection:
        """Check that lines can be written; compress what an earlier run left uncompressed."""
        return FileConnection(
            self.settings, self.options or FileOptions(), dry_run=self.dry_run, extra=target_extra(self)
        )

    def close(self, connection: FileConnection) -> None:
        """Wait up to 30 s for compression to finish."""
        connection.close()

    def ping(self, connection: FileConnection) -> None:
        """Raise when lines cannot be written; leaves nothing behind."""
        connection.check()

    def preflight(self, connection: FileConnection, report: Preflight) -> None:
        """Report the file and the folder that the first message would create."""
        connection.preflight(report)

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        """Append a line for each; the result is None."""
        shape, at = (self.options or FileOptions()).record, time.time()
        answers: list[Any] = [None] * len(messages)
        lines: list[bytes] = []
        places: list[int] = []
        for place, message in enumerate(messages):
            try:
                line = json_line(message, shape=shape, channel=state.channel, at=at)
            except SerializationError as error:
                answers[place] = error
            else:
                lines.append(line + b"\n")
                places.append(place)
        for place, failure in zip(places, state.connection.append(lines), strict=True):
            answers[place] = failure
        return answers
