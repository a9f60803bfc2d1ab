"""Compression of rotated files on a background thread."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import logging
import os
import shutil
import threading
from collections import deque
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["Compressor", "compress"]

log = logging.getLogger("rambla_py.handlers.file")

_CHUNK = 1 << 20


class Compressor:
    """Compresses the files handed to it, one by one, in a thread that lives as long as there are any.

    A file that cannot be compressed stays as it is, and a warning is logged.
    """

    def __init__(self, extra: dict[str, Any] | None = None) -> None:
        self._extra = extra
        self._lock = threading.Lock()
        self._waiting: deque[Path] = deque()
        self._thread: threading.Thread | None = None

    def add(self, path: Path) -> None:
        """Hand over a file that is no longer written to; returns at once."""
        with self._lock:
            self._waiting.append(path)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rambla-gzip", daemon=True)
                self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until nothing is left to compress; return whether that was so in time."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                path = self._waiting.popleft()
            try:
                compress(path)
            except OSError as error:
                log.warning("%s stays uncompressed: %s", path, error, extra=self._extra)


def compress(path: Path) -> None:
    """Replace a file by ``path.gz``; at every moment one of the two is whole, whenever the power goes.

    Does nothing when another process is at it, or has done it. Raises ``OSError``, and leaves the file then.
    """
    unfinished = Path(f"{path}.gz.tmp")
    with open(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b") as target:
        try:
            fcntl.flock(target, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        try:
            _squeeze(path, target)
            os.replace(unfinished, f"{path}.gz")
        except FileNotFoundError:
            unfinished.unlink(missing_ok=True)
            return
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
    path.unlink()


def _squeeze(path: Path, target: BinaryIO) -> None:
    with path.open("rb") as source:
        status = os.fstat(source.fileno())
        os.fchmod(target.fileno(), status.st_mode & 0o777)
        target.truncate(0)
        with gzip.GzipFile(path.name, "wb", fileobj=target, mtime=status.st_mtime) as squeezed:
            shutil.copyfileobj(source, squeezed, _CHUNK)
        target.flush()
        os.fsync(target.fileno())
