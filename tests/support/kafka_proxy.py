"""A proxy before one Kafka broker that harms each request with a marked record."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from types import TracebackType
from typing import Any, Literal, Self

from rambla_py.testing.kafka_cluster import PRODUCE, KafkaCluster
from rambla_py.testing.ports import HOST

__all__ = ["KafkaProxy"]


class KafkaProxy:
    """Forwards one request at a time, and has the broker refuse those that contain ``mark``.

    ``harm`` is the broker's error code for them, or ``"cut"``: the connection is closed without an answer.
    The brokers' metadata lead clients here. ``harmed`` counts the requests.
    """

    def __init__(self, cluster: KafkaCluster, harm: int | Literal["cut"], *, mark: bytes) -> None:
        self.harmed = 0
        self._cluster, self._harm, self._mark = cluster, harm, mark
        self._lock = threading.Lock()
        host, port = cluster.servers.split(":")
        self._broker = host, int(port)
        proxy = self

        class Conversation(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection(proxy._broker) as broker:
                    while (request := _read(self.request)) and (answer := proxy._answer(broker, request)):
                        self.request.sendall(answer)

        self._server = _Server((HOST, 0), Conversation)
        self.servers = f"{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self._cluster.advertise(1, HOST, self._server.server_address[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, broker: socket.socket, request: bytes) -> bytes:
        """Return the broker's answer; empty to close the connection. One at a time, so that it is the right."""
        (kind,) = struct.unpack(">h", request[4:6])
        harmful = kind == PRODUCE and self._mark in request
        with self._lock:
            self.harmed += harmful
            if harmful and self._harm == "cut":
                return b""
            if harmful and isinstance(self._harm, int):
                self._cluster.fail_next(PRODUCE, self._harm)
            broker.sendall(request)
            return _read(broker)


def _read(stream: socket.socket) -> bytes:
    """Read one request or answer with its length; empty at the end of the connection."""
    head = _exactly(stream, 4)
    return head + _exactly(stream, struct.unpack(">i", head)[0]) if head else b""


def _exactly(stream: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = stream.recv(size - len(found))
        if not piece:
            return b""
        found += piece
    return found


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that has disconnected."""
