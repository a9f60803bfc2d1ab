"""A folder in memory, for the temporary files of a run."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["use_memory"]

_MEMORY = Path("/dev/shm")
_NEEDED_BYTES = 8 * 2**30  # a whole run takes about 2 GiB
_PREFIX = "rambla-"  # short, for the paths of sockets


def use_memory(parent: Path = _MEMORY, needed_bytes: int = _NEEDED_BYTES) -> Path | None:
    """Put temporary files in a new folder in memory from now on, and return it, for the caller to remove.

    Brokers, databases and outboxes write what they confirm to disk first, message by message; tests of a slow
    disk wait for little else. What is killed loses the same in memory as on disk: only the machine's own end
    would show the difference, and no test causes that.

    Returns None, and changes nothing, if ``$TMPDIR`` says where to, or if the memory is too small or runs no
    programs. Folders of runs that were killed are removed.
    """
    if "TMPDIR" in os.environ or not _is_fit(parent, needed_bytes):
        return None
    for left in parent.glob(f"{_PREFIX}*"):
        if not Path("/proc", left.name.removeprefix(_PREFIX)).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = parent / f"{_PREFIX}{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o711)  # PostgreSQL runs as a user of its own
    os.environ["TMPDIR"] = str(folder)  # for processes that are started, those of pytest-xdist too
    tempfile.tempdir = None  # it is looked up once
    return folder


def _is_fit(parent: Path, needed_bytes: int) -> bool:
    with suppress(OSError):
        found = os.statvfs(parent)
        runs_programs = not found.f_flag & os.ST_NOEXEC
        return (
            os.access(parent, os.W_OK) and runs_programs and found.f_bavail * found.f_frsize >= needed_bytes
        )
    return False
