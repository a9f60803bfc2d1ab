"""This module is the handler that appends messages to a file as JSON lines."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    RejectedError,
    SerializationError,
    UnknownOutcomeError,
)
from rambla_py.handler import Handler, State, per_channel
from rambla_py.handlers._record import Shape, json_line
from rambla_py.handlers.file.append import Appended, Appender, Fsync
from rambla_py.handlers.file.compression import Compressor
from rambla_py.handlers.file.rotation import Rotation, left_uncompressed

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["FileHandler"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
}
_COMPRESSION_WAIT_S = 30.0


class _Journal(msgspec.Struct, frozen=True):
    """The connection: where lines go, and who compresses what was moved aside."""

    appender: Appender
    compressor: Compressor


class FileHandler(Handler):
    """Appends one line of JSON for each message; the first one makes file and folder. POSIX only.

    Any number of workers and processes may append to one path: a batch is one write under the file's lock.
    A line that could not be written whole is taken back; when a process is killed in the midst of a write,
    the next one ends the cut line, so that it spoils no other. ``fsync = "batch"`` waits for the disk before
    the messages of a batch count as delivered, ``"always"`` after each line, ``"never"`` leaves it to the
    system. The path may be moved away by others (logrotate): the next batch makes a new file.

    A file that would grow over ``rotate_bytes``, or whose first line is ``rotate_s`` old when a message
    comes, is moved aside as ``name.20130101T120000Z.0001.jsonl``, and compressed in the background.

    Delivery: at least once. A message is written again, as another line with the same id, when the disk
    did not confirm a write (``UnknownOutcomeError``), or a worker died before it could answer. One worker
    keeps the order of its batches; a line that failed may stand behind later ones. A full disk fails the
    attempt (``RejectedError``), a refused path is an ``AccessError``; a payload with bytes that are no UTF-8,
    or that JSON cannot hold, is fatal, and only for itself.
    """

    guarantee = (
        "at least once; a line may stand twice after a failed fsync; a worker keeps the order of batches"
    )
    ordered = False

    class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """Where the lines go."""

        path: Annotated[str, Meta(min_length=1, description="the file; '~' is the home folder")]

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """How the lines are kept."""

        rotate_bytes: Annotated[
            Annotated[int, Meta(ge=1)] | None,
            per_channel("move the file aside before it grows over this many bytes"),
        ] = None
        rotate_s: Annotated[
            Annotated[float, Meta(gt=0)] | None,
            per_channel("move the file aside this many seconds after its first line"),
        ] = None
        compression: Annotated[
            Literal["none", "gzip"], per_channel("what becomes of a file that was moved aside")
        ] = "none"
        fsync: Annotated[Fsync, per_channel("when to wait for the disk")] = "batch"
        record: Annotated[
            Shape, per_channel("a line is the payload, or 'full': id, channel, at, key, headers, payload")
        ] = "payload"

    def connect(self) -> _Journal:
        """See that lines can be written, and to what an earlier run left uncompressed."""
        options = self._channel_options()
        compressor = Compressor()
        packed = options.compression == "gzip"
        path = Path(os.path.realpath(os.path.expanduser(self.settings.path)))
        appender = Appender(
            path,
            rotation=Rotation(options.rotate_bytes, options.rotate_s),
            fsync=options.fsync,
            on_rotated=compressor.add if packed else _leave,
        )
        try:
            appender.check()
            for left in left_uncompressed(path) if packed else ():
                compressor.add(left)
        except OSError as error:
            raise _ours(error) from error
        return _Journal(appender, compressor)

    def close(self, connection: _Journal) -> None:
        """Wait half a minute at most for what is being compressed; the next ``connect`` does the rest."""
        connection.compressor.wait(_COMPRESSION_WAIT_S)

    def ping(self, connection: _Journal) -> None:
        """Raise when lines cannot be written; leaves nothing behind."""
        try:
            connection.appender.check()
        except OSError as error:
            raise _ours(error) from error

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        """Append a line for each; the result is None."""
        shape, at = self._channel_options().record, time.time()
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
        appended = state.connection.appender.append(lines)
        for index, place in enumerate(places[appended.kept :]):
            answers[place] = _failure(appended, index)
        return answers

    def _channel_options(self) -> FileHandler.Options:
        return self.options if isinstance(self.options, FileHandler.Options) else FileHandler.Options()


def _leave(path: Path) -> None:
    """Leave a file that was moved aside as it is."""


def _failure(appended: Appended, index: int) -> DeliveryError:
    """Return the error of a line, by its place behind those that stand."""
    error = appended.error or OSError("the line was not written")
    failure = UnknownOutcomeError(f"written, but: {error}") if index < appended.unsure else _ours(error)
    failure.__cause__ = error
    return failure


def _ours(error: OSError) -> DeliveryError:
    """Return our error for one of the system's; the only place that knows which is which."""
    if error.errno in _FULL:
        return RejectedError(str(error))
    return AccessError(str(error)) if error.errno in _REFUSED else ConnectionLostError(str(error))
