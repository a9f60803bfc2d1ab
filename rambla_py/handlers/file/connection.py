"""The live connection of the ``file`` handler: a file to append to, and the compression of rotated ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rambla_py.errors import DeliveryError, UnknownOutcomeError
from rambla_py.handler import Preflight
from rambla_py.handlers.file.append import Appended, Appender
from rambla_py.handlers.file.compression import Compressor
from rambla_py.handlers.file.errors import file_error
from rambla_py.handlers.file.rotation import Rotation, left_uncompressed
from rambla_py.handlers.file.settings import FileOptions, FileSettings

__all__ = ["FileConnection"]

_COMPRESSION_WAIT_S = 30.0


class FileConnection:
    """Appends lines to the file of a channel; raises ``AccessError`` where they cannot be written."""

    def __init__(
        self,
        settings: FileSettings,
        options: FileOptions,
        *,
        dry_run: bool = False,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self._compressor = Compressor(extra)
        compresses = options.compression == "gzip"
        path = Path(os.path.realpath(os.path.expanduser(settings.path)))
        self._appender = Appender(
            path,
            rotation=Rotation(options.rotate_bytes, options.rotate_s),
            fsync=options.fsync,
            on_rotated=self._compressor.add if compresses else _leave,
        )
        self.check()
        for left in (
            left_uncompressed(path) if compresses and not dry_run else ()
        ):  # of a process that was killed
            self._compressor.add(left)

    def check(self) -> None:
        """Raise when lines cannot be written; leaves nothing behind."""
        try:
            self._appender.check()
        except OSError as error:
            raise file_error(error) from error

    def preflight(self, report: Preflight) -> None:
        """Report what the first line would create."""
        path = self._appender.path
        if not path.parent.exists():
            report.would_create(f"folder {path.parent}")
        if not path.exists():
            report.would_create(f"file {path}")

    def append(self, lines: Sequence[bytes]) -> list[DeliveryError | None]:
        """Append whole lines; return an error, or None, for each."""
        appended = self._appender.append(lines)
        failed = len(lines) - appended.kept
        return [None] * appended.kept + [_failure(appended, index) for index in range(failed)]

    def close(self) -> None:
        """Wait up to 30 s for compression to finish; the next connection does the rest."""
        self._compressor.wait(_COMPRESSION_WAIT_S)


def _leave(path: Path) -> None:
    """Leave a rotated file as it is."""


def _failure(appended: Appended, index: int) -> DeliveryError:
    """Return the error of a line, by its index among those that were not kept."""
    error = appended.error or OSError("the line was not written")
    failure = UnknownOutcomeError(f"written, but: {error}") if index < appended.unsure else file_error(error)
    failure.__cause__ = error
    return failure
