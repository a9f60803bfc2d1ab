"""Unix sockets of operations pages: one a process, found by those of the same user and name."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["AUTO", "bind_socket", "siblings", "socket_path"]

AUTO: Final = "auto"
"""The setting for a socket a process, in a folder that only the user may enter."""

_BACKLOG: Final = 64
_PROBE_S: Final = 0.5
_NOT_IN_NAMES = re.compile(r"[^\w.-]")


def socket_path(given: str, name: str | None) -> str:
    """Return the path of this process's socket; raises ``OSError`` if its folder is open to others."""
    return given if given != AUTO else str(_folder() / f"{_file_name(name)}-{os.getpid()}.sock")


def bind_socket(path: str) -> socket.socket:
    """Listen on a path, with mode 0600; a socket without a listener is replaced.

    Raises ``OSError`` if another process listens on it, or if something else has that name.
    """
    if os.path.lexists(path):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(17, "a file of that name exists and is no socket", path)
        if _answers(path):
            raise OSError(98, "another process listens on it", path)
        os.unlink(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(made.fileno(), 0o600)  # of the file that bind makes, which no one may open before
        made.bind(path)
        os.chmod(path, 0o600)
        made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def siblings(name: str | None) -> Iterator[tuple[int, str]]:
    """Yield process id and socket of each other process of this user with an app of this name.

    Those that have ended without removing theirs are removed.
    """
    wanted = re.compile(re.escape(_file_name(name)) + r"-(\d+)\.sock")
    for path in sorted(_folder().iterdir()):
        found = wanted.fullmatch(path.name)
        if found is None or int(found[1]) == os.getpid():
            continue
        if _answers(str(path)):
            yield int(found[1]), str(path)
        elif not _is_alive(int(found[1])):  # else it is about to listen
            with suppress(OSError):
                path.unlink()


def _folder() -> Path:
    """Return the folder of the sockets, made with mode 0700; raises ``OSError`` if it is not the user's."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) if runtime else Path(tempfile.gettempdir()) / f"rambla-{os.getuid()}"
    folder = base / "rambla"
    for made in (base, folder):
        with suppress(FileExistsError):
            made.mkdir(mode=0o700)
        found = made.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise PermissionError(13, "expected a folder of this user alone, with mode 0700", str(made))
    return folder


def _file_name(name: str | None) -> str:
    return _NOT_IN_NAMES.sub("_", name or "rambla")[:40]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
