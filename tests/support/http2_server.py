"""The least of an HTTP/2 server: it takes any request, keeps its body, and answers 200."""

from __future__ import annotations

import asyncio
import ssl

from served_loop import ServedLoop

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 4, 6, 8
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_STATUS_200 = b"\x88"  # the eighth of HPACK's static table


class Http2Server(ServedLoop):
    """Speaks HTTP/2 only; over TLS it says so (ALPN), without TLS it expects to be known."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, delay_s: float = 0.0) -> None:
        super().__init__(tls)
        self.bodies: list[bytes] = []
        self.connections = self.now = self.most = 0
        self._delay_s = delay_s
        if tls is not None:
            tls.set_alpn_protocols(["h2"])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        streams: dict[int, bytes] = {}
        try:
            if await reader.readexactly(len(_PREFACE)) != _PREFACE:
                return
            self.connections += 1
            writer.write(_frame(_SETTINGS))
            while True:
                head = await reader.readexactly(9)
                size, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
                stream, payload = int.from_bytes(head[5:]), await reader.readexactly(size)
                self._take(writer, streams, kind, flags, stream, payload)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    def _take(
        self,
        writer: asyncio.StreamWriter,
        streams: dict[int, bytes],
        kind: int,
        flags: int,
        stream: int,
        payload: bytes,
    ) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, flags=_ACK))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, flags=_ACK, payload=payload))
        elif kind == _HEADERS:
            streams[stream] = b""
            self.now += 1
            self.most = max(self.most, self.now)
        elif kind == _DATA and payload:
            streams[stream] += payload
            room = len(payload).to_bytes(4)
            writer.write(_frame(_WINDOW_UPDATE, payload=room) + _frame(_WINDOW_UPDATE, stream, payload=room))
        if kind in (_HEADERS, _DATA) and flags & _END_STREAM:
            self._loop.call_later(self._delay_s, self._answer, writer, stream, streams[stream])

    def _answer(self, writer: asyncio.StreamWriter, stream: int, body: bytes) -> None:
        self.now -= 1
        self.bodies.append(body)
        if not writer.is_closing():
            writer.write(_frame(_HEADERS, stream, _END_HEADERS | _END_STREAM, _STATUS_200))


def _frame(kind: int, stream: int = 0, flags: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload
