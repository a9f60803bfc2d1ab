"""The files of a SQLite journal: where they may be, and the reserve for a full disk."""

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress
from pathlib import Path

from rambla_py.outbox.errors import OutboxError

__all__ = ["Reserve", "check_file_system", "check_place", "file_system_of", "has_room"]

log = logging.getLogger("rambla_py.outbox")

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "glusterfs", "lustre", "afs", "ncpfs"}
)

_PROBE_BYTES = 65_536


def check_place(path: Path, *, allow_network: bool) -> None:
    """Raise ``OutboxError`` if a journal cannot be at ``path``: a directory, or a shared file system.

    The file must not be opened here: closing it would give up the locks that SQLite has on it for other
    connections of this process, and another process could remove the log that they write to.
    """
    name = str(path)
    if path.is_dir():
        raise OutboxError(name, "this is a directory; the url must name a file")
    if path.exists() and not path.is_file():
        raise OutboxError(name, "this is not a regular file")
    check_file_system(name, file_system_of(path.parent), allow_network=allow_network)


def check_file_system(name: str, kind: str | None, *, allow_network: bool) -> None:
    """Raise ``OutboxError`` for the type of a shared file system, or log a warning if it is allowed."""
    if kind is not None and (kind in _NETWORK or kind.startswith("fuse")):
        if not allow_network:
            hint = "locks and syncs cannot be relied on there; use a local disk, or a PostgreSQL outbox"
            raise OutboxError(name, f"it is on a network or shared file system ({kind}): {hint}")
        log.warning("outbox %s is on a network or shared file system (%s): messages may get lost", name, kind)


def file_system_of(folder: Path) -> str | None:
    """Return the type of the file system that holds a folder, as ``mount`` names it; None if unknown.

    Only Linux tells; elsewhere the type is not known.
    """
    place = os.path.realpath(folder)
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    best, kind = "", None
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = before.split(" ")[4].replace("\\040", " ")
        inside = mount == "/" or place == mount or place.startswith(f"{mount}/")
        if inside and len(mount) >= len(best):
            best, kind = mount, after.split(" ")[0]
    return kind


def has_room(journal: Path) -> bool:
    """Return whether the disk has room beside a journal, and its quota; True if that cannot be found out."""
    probe = journal.with_name(f"{journal.name}-probe-{os.getpid()}")
    try:
        descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _PROBE_BYTES)
        finally:
            os.close(descriptor)
            os.unlink(probe)
    except OSError as error:
        return error.errno not in (errno.ENOSPC, errno.EDQUOT)
    return True


class Reserve:
    """Room on the disk for the log of a journal: SQLite needs some to delete, too.

    The file is given up when the disk is full, and made again once there is room.
    """

    def __init__(self, journal: Path, size: int) -> None:
        self._path, self._size = journal.with_name(f"{journal.name}-reserve"), size
        self.given_up = False

    def make(self) -> bool:
        """Allocate the file; return whether it is there in full."""
        if self._size <= 0:
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        before = os.fstat(descriptor).st_size
        try:
            if before < self._size:
                os.posix_fallocate(descriptor, 0, self._size)
            self.given_up = False
            return True
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, before)  # a process with a smaller one has made that
            self.given_up = before == 0
            return False
        finally:
            os.close(descriptor)

    def give_up(self) -> bool:
        """Free the room; return whether there was any."""
        if self.given_up or self._size <= 0:
            return False
        self.given_up = True
        with suppress(OSError):
            os.truncate(self._path, 0)
            return True
        return False
