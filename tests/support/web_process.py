"""The web server of tests in a process of its own, which keeps on disk what it has taken.

So it may be killed, and whatever it has answered is there afterwards. It wants a login, and refuses what holds
``poison``.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from web_server import Reply, Seen, WebServer

from rambla_py.testing.server_process import Server

LOGIN = ("shop", "right")
_KEPT = "kept.jsonl"


class WebProcess(Server):
    """Answers 200 ``thanks`` to what it has kept; the file stays over ``restart`` and ``kill``."""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def seen(self, path: str) -> list[Seen]:
        """Return the requests to a path that were answered well, and perhaps one more after a kill."""
        file = self.folder / _KEPT
        lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
        # The last line of a killed process may be cut: no client was answered that it was taken.
        found = [msgspec.json.decode(line, type=Seen) for line in lines if line.endswith(b"\n")]
        return [seen for seen in found if seen.path == path]

    def _argv(self) -> Sequence[str]:
        return [sys.executable, __file__, str(self.port), str(self.folder / _KEPT)]

    def _answers(self) -> bool:
        with socket.create_connection((self.host, self.port), timeout=1):
            return True


def _main(port: int, file: Path) -> None:
    file.touch()
    os.truncate(file, file.read_bytes().rfind(b"\n") + 1)
    kept = os.open(file, os.O_WRONLY | os.O_APPEND)

    def answer(seen: Seen) -> Reply:
        if b"poison" in seen.body:
            return Reply(422, b"no poison, please")
        os.write(kept, msgspec.json.encode(seen) + b"\n")
        return Reply(200, b"thanks")

    with WebServer(port=port) as server:
        server.login, server.answer = LOGIN, answer
        signal.pause()


if __name__ == "__main__":
    _main(int(sys.argv[1]), Path(sys.argv[2]))
