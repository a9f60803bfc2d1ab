"""Rules for when a file is rotated, and the name it gets."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

__all__ = ["Rotation", "left_uncompressed", "mark_start", "moved_aside", "started_at"]

_STAMP = "%Y%m%dT%H%M%SZ"


class Rotation(msgspec.Struct, frozen=True):
    """The limits of a file: bytes, and seconds since its first line; None is no limit."""

    rotate_bytes: int | None = None
    rotate_s: float | None = None

    def is_due(self, size: int, next_line: int, *, age_s: float) -> bool:
        """Return whether a file that is not empty must be rotated before a line of ``next_line`` bytes.

        >>> Rotation(rotate_bytes=100).is_due(90, 11, age_s=0.0)
        True
        """
        too_big = self.rotate_bytes is not None and size + next_line > self.rotate_bytes
        return too_big or (self.rotate_s is not None and age_s >= self.rotate_s)

    def room_for(self, lines: Sequence[bytes], size: int) -> int:
        """Return how many of these lines fit; one at least, for a line may be larger than a file may be.

        >>> Rotation(rotate_bytes=10).room_for([b"1234", b"5678", b"90!?"], 0)
        2
        """
        if self.rotate_bytes is None:
            return len(lines)
        for count, line in enumerate(lines):
            size += len(line)
            if size > self.rotate_bytes:
                return max(1, count)
        return len(lines)


def moved_aside(path: Path, now: float) -> Path:
    """Return the name that a full file is moved to: ``flights.20130101T120000Z.0001.jsonl``, a free one.

    Call it under the file's lock. The number tells apart those of one second.
    """
    stamp = time.strftime(_STAMP, time.gmtime(now))
    number = 1
    while True:
        name = path.with_name(f"{path.stem}.{stamp}.{number:04d}{path.suffix}")
        if not (os.path.lexists(name) or os.path.lexists(f"{name}.gz")):
            return name
        number += 1


def left_uncompressed(path: Path) -> list[Path]:
    """Return the files that were moved aside from this path and are not compressed, oldest first."""
    ours = re.compile(rf"{re.escape(path.stem)}\.\d{{8}}T\d{{6}}Z\.\d{{4,}}{re.escape(path.suffix)}")
    names = os.listdir(path.parent) if path.parent.is_dir() else ()
    return sorted(path.with_name(name) for name in names if ours.fullmatch(name))


def mark_start(path: Path, now: float) -> None:
    """Note when the first line of a file is written, for those that come later: other workers, other runs.

    No file system keeps that time under later writes, so it is the time of a small hidden file beside it.
    """
    beside = _beside(path)
    beside.touch()
    os.utime(beside, (now, now))


def started_at(path: Path, *, otherwise: float) -> float:
    """Return when the first line was written, in seconds since the epoch; ``otherwise`` if unknown."""
    try:
        return os.stat(_beside(path)).st_mtime
    except FileNotFoundError:
        mark_start(path, otherwise)
        return otherwise


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.since")
