"""A server that takes requests as quickly as Python can, and counts them; it answers PUT as S3 does.

``python -m bench.http_sink`` prints its port. ``GET /taken`` answers with the number of events and bytes
since the last time; a body in an envelope counts as many events as it holds.
"""

from __future__ import annotations

import asyncio
import gzip

import msgspec

__all__: list[str] = []

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_STORED = b'HTTP/1.1 200 OK\r\nETag: "0123456789abcdef0123456789abcdef"\r\nContent-Length: 0\r\n\r\n'


class _Envelope(msgspec.Struct):
    events: list[msgspec.Raw] = []
    batch: list[msgspec.Raw] = []


class _Taken:
    events = 0
    size = 0


class _Sink(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer, self._told = b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        answers = []
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            size = _length(head)
            if len(self._buffer) < end + 4 + size:
                if b"\r\nexpect: 100-continue" in head and not self._told:
                    self._told = True
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                break
            self._told = False
            body = self._buffer[end + 4 : end + 4 + size]
            self._buffer = self._buffer[end + 4 + size :]
            answers.append(_tell() if head.startswith(b"get /taken") else _take(head, body))
        if answers:
            self._transport.write(b"".join(answers))


def _length(head: bytes) -> int:
    at = head.find(b"\r\ncontent-length:")
    return int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def _take(head: bytes, body: bytes) -> bytes:
    if head.startswith(b"head"):
        return _OK
    if head.startswith(b"put"):
        _Taken.events += 1
        return _STORED
    if b"content-encoding: gzip" in head:
        body = gzip.decompress(body)
    if body[:200].startswith((b'{"events"', b'{"batch"')) or b'"events":[' in body[:200]:
        envelope = msgspec.json.decode(body, type=_Envelope)
        events = envelope.events or envelope.batch
        _Taken.events += len(events)
        _Taken.size += sum(len(bytes(event)) for event in events)
    else:
        _Taken.events += 1
        _Taken.size += len(body)
    return _OK


def _tell() -> bytes:
    body = b"%d %d" % (_Taken.events, _Taken.size)
    _Taken.events = _Taken.size = 0
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
