"""Servers of tests in a process of their own, which keep on disk, line by line, what they have taken.

So they may be killed, and whatever they have answered is there afterwards.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from web_server import WebServer

from rambla_py.testing.server_process import Server

_KEPT = "kept.jsonl"


class KeepingServer(Server):
    """A web server that ``serve`` runs; its file stays over ``restart`` and ``kill``."""

    program: ClassVar[str]
    """The file of the module that calls ``serve`` when it is run."""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def lines(self) -> list[bytes]:
        """Return what was kept: all that was answered well, and perhaps some more after a kill."""
        file = self.folder / _KEPT
        lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
        # The last line of a killed process may be cut: no client was answered that it was taken.
        return [line for line in lines if line.endswith(b"\n")]

    def _argv(self) -> Sequence[str]:
        return [sys.executable, self.program, str(self.port), str(self.folder / _KEPT)]

    def _answers(self) -> bool:
        with socket.create_connection((self.host, self.port), timeout=1):
            return True


def serve(prepare: Callable[[WebServer, Callable[[bytes], None]], None]) -> None:
    """Run the server that ``prepare`` makes ready; it is given a function that keeps a line."""
    port, file = int(sys.argv[1]), Path(sys.argv[2])
    file.touch()
    os.truncate(file, file.read_bytes().rfind(b"\n") + 1)
    kept = os.open(file, os.O_WRONLY | os.O_APPEND)

    def keep(line: bytes) -> None:
        os.write(kept, line + b"\n")

    with WebServer(port=port) as server:
        prepare(server, keep)
        signal.pause()
