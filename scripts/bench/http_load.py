"""A load of requests over connections that stay open."""

from __future__ import annotations

import asyncio
import time

__all__ = ["load"]

_HEAD_END = b"\r\n\r\n"


class _Client(asyncio.Protocol):
    """Sends a request when the one before has its answer, which has a Content-Length."""

    def __init__(self, request: bytes, count: int) -> None:
        self._request = request
        self._left = count
        self._buffer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.index(b"content-length:") + 15
        size = int(head[at:].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + len(_HEAD_END) + size:
            return
        assert head.startswith(b"http/1.1 200"), head
        self._buffer = b""
        self._left -= 1
        if self._left:
            self._transport.write(self._request)
        else:
            self._transport.close()
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionResetError("the server closed the connection"))


def load(host: str, port: int, path: str, *, count: int, connections: int = 16) -> float:
    """Send ``count`` requests, so many at a time; return the seconds that they took."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench/1\r\nAccept: */*\r\n"
        "Accept-Encoding: gzip\r\nConnection: keep-alive\r\n\r\n"
    ).encode()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        clients = [
            await loop.create_connection(lambda: _Client(request, count // connections), host, port)
            for _ in range(connections)
        ]
        await asyncio.gather(*(client.done for _, client in clients))

    began = time.perf_counter()
    asyncio.run(run())
    return time.perf_counter() - began
