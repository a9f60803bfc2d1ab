"""A collector for tests: real sockets, everything in memory."""

from __future__ import annotations

import base64
import socketserver
import threading
from contextlib import suppress
from typing import Any, NamedTuple, Self

TOKEN = "the-token"


class Row(NamedTuple):
    """A message as it arrived."""

    topic: str
    id: str
    body: bytes


class Collector:
    """Listens on a free port; takes all topics but ``forbidden``. What it acknowledged outlives a crash."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.crashes = 0
        self._server = _Server(("127.0.0.1", 0), self)
        self.host, self.port = self._server.server_address[:2]
        self._serve()

    def crash(self) -> None:
        """Break all connections, and listen again on the same port."""
        self._end()
        self._server = _Server((self.host, self.port), self)
        self._serve()
        self.crashes += 1

    def answer(self, line: bytes) -> bytes:
        """Return the answer to one line; what is OK is kept."""
        if line == b"PING":
            return b"OK"
        topic, name, body = line.split(b" ")
        if topic == b"forbidden":
            return b"NO this topic is not taken"
        row = Row(topic.decode(), base64.urlsafe_b64decode(name).decode(), base64.b64decode(body))
        self.rows.append(row)
        return b"OK"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: Any) -> None:
        self._end()

    def _serve(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.drop_clients()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], collector: Collector) -> None:
        self.collector = collector
        self.clients: set[Any] = set()
        super().__init__(address, _Client)

    def drop_clients(self) -> None:
        for client in list(self.clients):
            self.shutdown_request(client.request)


class _Client(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.server.clients.add(self)
        with suppress(OSError, ValueError):  # the connection broke, or the test ended it
            self._talk()
        self.server.clients.discard(self)

    def _talk(self) -> None:
        hello = self.rfile.readline()
        if hello != b"HELLO %b\n" % TOKEN.encode():
            self.wfile.write(b"NO unknown token\n")
            return
        self.wfile.write(b"OK\n")
        while (line := self.rfile.readline()).endswith(b"\n"):
            self.wfile.write(self.server.collector.answer(line[:-1]) + b"\n")

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
