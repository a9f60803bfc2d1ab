"""A real HTTP/1.1 server for tests: it keeps what it was sent, and gives the answers of the test."""

from __future__ import annotations

import asyncio
import base64
import ssl
import zlib
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import zstandard
from served_loop import ServedLoop


class Seen(NamedTuple):
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    raw: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def body(self) -> bytes:
        """The body without its compression."""
        how = self.headers.get("content-encoding")
        if how == "gzip":
            return zlib.decompress(self.raw, wbits=31)
        return zstandard.ZstdDecompressor().decompress(self.raw) if how == "zstd" else self.raw


class Reply(NamedTuple):
    """What to answer; ``cut`` ends the connection in place of an answer, ``short`` so many bytes before its end."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {}
    delay_s: float = 0.0
    cut: bool = False
    silent: bool = False
    short: int = 0


Answering = Callable[[Seen], Reply]


class WebServer(ServedLoop):
    """Answers every request with ``answer(seen)``; pings (HEAD) are kept apart from the others.

    ``on_gone`` is called when a client gave up a request that has no answer.
    With ``login`` (user, password) or ``token`` it wants these, and says 401 to anything else.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, port: int | None = None) -> None:
        super().__init__(tls, port)
        self.seen: list[Seen] = []
        self.pings: list[Seen] = []
        self.answer: Answering = lambda seen: Reply()
        self.on_ping: Answering = lambda seen: Reply(204)
        self.on_gone: Callable[[Seen], object] = lambda seen: None
        self.login: tuple[str, str] | None = None
        self.token: str | None = None
        self.connections = self.now = self.most = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers: dict[str, str] = {}
        for name, _, value in (line.partition(":") for line in head[1:-2]):
            before = headers.get(name.lower())
            headers[name.lower()] = value.strip() if before is None else f"{before}, {value.strip()}"
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        seen = Seen(method, target, headers, body)
        if method == "CONNECT":
            return await self._tunnel(seen, reader, writer)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            reply = self._reply(seen)
            await asyncio.sleep(reply.delay_s)
        finally:
            self.now -= 1
        if reply.silent:
            await asyncio.wait({asyncio.ensure_future(reader.read(1))}, timeout=60)
            self.on_gone(seen)
        if reply.cut:
            return False
        lines = [f"HTTP/1.1 {reply.status} Whatever", f"Content-Length: {len(reply.body) + reply.short}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else reply.body))
        await writer.drain()
        return not reply.short

    async def _tunnel(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Be a proxy for TLS; with ``login`` it wants these."""
        if self.login is not None and seen.headers.get("proxy-authorization") != _basic(*self.login):
            writer.write(b"HTTP/1.1 407 Whatever\r\nContent-Length: 0\r\n\r\n")
            return True
        self.seen.append(seen)
        host, _, port = seen.target.rpartition(":")
        back, there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Whatever\r\n\r\n")
        try:
            await asyncio.gather(_pump(reader, there), _pump(back, writer))
        finally:
            there.close()
        return False

    def _reply(self, seen: Seen) -> Reply:
        if not self._welcome(seen.headers.get("authorization", "")):
            return Reply(401, b"who are you?")
        if seen.method == "HEAD":
            self.pings.append(seen)
            return self.on_ping(seen)
        reply = self.answer(seen)
        if reply.status < 300 and not reply.cut:
            self.seen.append(seen)
        return reply

    def _welcome(self, given: str) -> bool:
        if self.token is not None:
            return given == f"Bearer {self.token}"
        if self.login is not None:
            return given == _basic(*self.login)
        return True


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()
