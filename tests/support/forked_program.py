"""The program ``rambla`` in a process of its own for each call, forked from one that has done the imports."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["PROGRAM", "ForkedProgram"]

_MOST_BYTES = 1 << 17
_HANDLERS = ("console", "file", "memory", "null", "redis", "sql", "stub")
_MODULES = (
    "rambla_py.app",
    "rambla_py.outbox.sqlite.journal",
    "rambla_py.sql.dialects.sqlite",
    "rich.progress",
    "sqlalchemy.dialects.sqlite",
    "typer._adapters",
)


class ForkedProgram:
    """Runs ``python -m rambla_py.cli``, one call at a time; the imports take longer than what it does.

    Each call is a process with exit hooks, threads and an exit code of its own, and with stdin, stdout and stderr
    that are no terminals. What is imported when is for other tests.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def run(
        self, folder: Path, arguments: Sequence[str], environ: Mapping[str, str], given: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        """Run the program in a folder, and kill it after a minute; what it prints is UTF-8."""
        with self._lock, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            self._start()
            read, write = os.pipe()
            request = json.dumps([str(folder), arguments, dict(environ)]).encode()
            socket.send_fds(self._socket, [request], [read, out.fileno(), errors.fileno()])
            os.close(read)
            threading.Thread(target=_write, args=(write, given), daemon=True).start()
            code = self._wait(arguments)
            out.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read().decode(), errors.read().decode())

    def close(self) -> None:
        """End the process that has done the imports."""
        process, self._process = self._process, None
        if process is not None:
            self._socket.close()
            process.wait(30)

    def _start(self) -> None:
        if self._process is None:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket.settimeout(60)
            with theirs:
                fd = theirs.fileno()
                self._process = subprocess.Popen(
                    [sys.executable, __file__, str(fd)],
                    pass_fds=[fd],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )

    def _wait(self, arguments: Sequence[str]) -> int:
        pid = int(self._socket.recv(100))
        try:
            return int(self._socket.recv(100))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            self._socket.recv(100)
            raise subprocess.TimeoutExpired(arguments, 60) from None


PROGRAM = ForkedProgram()
"""That of the test process, which ends after the last test."""


def _write(fd: int, given: bytes) -> None:
    with os.fdopen(fd, "wb") as pipe:
        try:
            pipe.write(given)
            pipe.flush()
        except BrokenPipeError:
            pass  # a program need not read it


def _become(request: bytes, fds: list[int]) -> None:
    """Be the program that was asked for, as far as its interpreter would differ from this one."""
    folder, arguments, environ = json.loads(request)
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    sys.path[0] = folder
    sys.argv = ["rambla", *arguments]


def _serve(place: socket.socket) -> bool:
    """Fork for each call; return False when there are no more, and True in each child."""
    while True:
        request, fds, *_ = socket.recv_fds(place, _MOST_BYTES, 3)
        if not request:
            return False
        if (pid := os.fork()) == 0:
            place.close()
            _become(request, fds)
            return True
        for fd in fds:
            os.close(fd)
        place.send(str(pid).encode())
        place.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _import_all() -> Any:
    import typer.main

    from rambla_py.cli.program import COMMANDS, main
    from rambla_py.registry import find_handler

    for name in _MODULES:
        importlib.import_module(name)
    for command in COMMANDS:
        typer.main.get_command(importlib.import_module(f"rambla_py.cli.{command}").app)
    for name in _HANDLERS:
        find_handler(name)
    gc.freeze()  # a child would copy each object to collect it at its end, which takes longer than most calls
    return main


if __name__ == "__main__":
    program = _import_all()
    if _serve(socket.socket(fileno=int(sys.argv[1]))):
        program()
