"""Programs on this machine, and the end of whole process groups."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

__all__ = ["deadline", "end_group", "find_program", "guard"]

_POLL_S = 0.05
_STOP_TIMEOUT_S = 15.0


def find_program(name: str, *folders: str) -> str | None:
    """Return the path of a program, looked for in ``folders``, on ``PATH`` and in ``/usr/sbin``, or None.

    Debian keeps servers there, and only root has it on ``PATH``.

    >>> find_program("no-such-program") is None
    True
    """
    places = (os.pathsep.join(folders), None, "/usr/sbin")
    return next(filter(None, (shutil.which(name, path=place) for place in places)), None)


def deadline(timeout_s: float, poll_s: float = _POLL_S) -> Iterator[None]:
    """Yield every ``poll_s`` seconds until ``timeout_s`` is over: a loop that waits for a process.

    >>> len(list(deadline(0.0)))
    1
    """
    end = time.monotonic() + timeout_s
    yield
    while time.monotonic() < end:
        time.sleep(poll_s)
        yield


def end_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a process and its group, wait, and kill after 15 s what is left of it."""
    with suppress(ProcessLookupError):
        if number is not signal.SIGKILL:
            os.killpg(process.pid, signal.SIGCONT)  # a paused process handles no other signal
        os.killpg(process.pid, number)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_TIMEOUT_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(_STOP_TIMEOUT_S)
    if process.stdin is not None:
        process.stdin.close()


def guard(group: int) -> subprocess.Popen[bytes]:
    """Start a shell that kills the group when this process is gone: then its stdin ends."""
    return subprocess.Popen(
        ["/bin/sh", "-c", f"read -r line; kill -KILL -{group}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
