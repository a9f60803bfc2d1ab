"""Files and folders of a store that only their owner can read."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from pathlib import Path

__all__ = ["FILE_MODE", "make_private_file", "make_private_folder", "warn_if_readable"]

FILE_MODE = 0o600
_FOLDER_MODE = 0o700
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

_log = logging.getLogger("rambla_py.state")


def make_private_folder(path: Path) -> None:
    """Create a folder, and missing ones above it, with mode 0700; one that exists keeps its mode.

    Raises ``OSError``.
    """
    if not path.is_dir():
        for missing in reversed([path, *path.parents]):
            with suppress(FileExistsError):
                missing.mkdir(_FOLDER_MODE)


def make_private_file(path: Path) -> None:
    """Create an empty file with mode 0600; one that exists keeps its mode. Raises ``OSError``."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))


def warn_if_readable(path: Path) -> None:
    """Log a warning if other users can read a file or a folder."""
    mode = _FOLDER_MODE if path.is_dir() else FILE_MODE
    found = stat.S_IMODE(path.stat().st_mode)
    if found & _OTHERS & ~stat.S_IXGRP & ~stat.S_IXOTH:
        _log.warning("other users can read %s (mode %04o); run chmod %o on it", path, found, mode)
