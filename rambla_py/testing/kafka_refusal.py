"""A Kafka broker that refuses every login.

librdkafka's mock brokers have no logins, and a real cluster is no Debian package.
"""

from __future__ import annotations

import socketserver
import struct
import threading
from types import TracebackType
from typing import Any, Self

from rambla_py.testing.ports import HOST

__all__ = ["KafkaRefusal"]

_HANDSHAKE, _VERSIONS, _AUTHENTICATE = 17, 18, 36
_FAILED = 58


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while len(head := self.rfile.read(4)) == 4:
            request = self.rfile.read(struct.unpack(">i", head)[0])
            kind, version, correlation = struct.unpack(">hhi", request[:8])
            answer = struct.pack(">i", correlation) + _answer(kind, version)
            self.wfile.write(struct.pack(">i", len(answer)) + answer)
            if kind == _AUTHENTICATE:
                return


def _answer(kind: int, version: int) -> bytes:
    if kind == _VERSIONS:
        known = ((_HANDSHAKE, 1, 1), (_VERSIONS, 0, 0), (_AUTHENTICATE, 0, 0), (3, 0, 4))
        listed = struct.pack(">i", len(known)) + b"".join(struct.pack(">hhh", *one) for one in known)
        # Of a version that it does not know, a broker answers as of version 0, with error 35.
        return struct.pack(">h", 35 if version else 0) + listed
    if kind == _HANDSHAKE:
        return struct.pack(">hi", 0, 1) + _text("PLAIN")
    return struct.pack(">h", _FAILED) + _text("Authentication failed: who is that?") + struct.pack(">i", 0)


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that has disconnected."""


class KafkaRefusal:
    """Listens on ``port`` of 127.0.0.1 inside its ``with`` block."""

    def __init__(self) -> None:
        self._server = _Server((HOST, 0), _Conversation)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
