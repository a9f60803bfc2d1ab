"""A TCP proxy that misbehaves on request."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from rambla_py.testing.ports import HOST, free_port
from rambla_py.testing.secured_server import TlsFiles

__all__ = ["Direction", "FaultProxy"]

Direction = Literal["up", "down"]
"""``up`` is from the client to the server, ``down`` the way back."""

_T = TypeVar("_T")
_CHUNK = 65_536
_PIECES_HELD = 256
_RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds


class FaultProxy:
    """Forwards connections to ``target_host:target_port``, and injects faults on request.

    Every method may be called from any thread; when it returns, the fault is in force. ``delay``,
    ``throttle`` and ``black_hole`` hold until they are called again with 0 or False. The counters only grow:
    ``connections``; ``cuts``, ``resets`` and ``half_closes`` (connections that it happened to); ``bytes_up``
    and ``bytes_down`` (passed on); ``swallowed`` (bytes that a black hole took).

    With ``tls`` it speaks TLS to the clients, by that certificate, and plainly to the server: what stands
    before a server that has no TLS of its own. ``half_close`` is not for these: TLS ends both ways at once.

    >>> with FaultProxy("127.0.0.1", 6379) as proxy:
    ...     proxy.cut()
    ...     proxy.cuts
    0
    """

    def __init__(self, target_host: str, target_port: int, *, tls: TlsFiles | None = None) -> None:
        self.target = (target_host, target_port)
        self.host, self.port = HOST, free_port()
        self._context = None if tls is None else tls.server_context()
        self.connections = self.cuts = self.resets = self.half_closes = 0
        self.bytes_up = self.bytes_down = self.swallowed = 0
        self._delay_s = 0.0
        self._bytes_per_s = 0.0
        self._swallows = False
        self._budget: dict[Direction, int | None] = {"up": None, "down": None}
        self._then: dict[Direction, Callable[[], object] | None] = {}
        self._links: set[_Link] = set()
        self._listener: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        host, port = self.target
        return f"<FaultProxy {self.host}:{self.port} -> {host}:{port}, {self.open} open>"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that clients connect to."""
        return (self.host, self.port)

    @property
    def open(self) -> int:
        """How many connections run through the proxy now."""
        return sum(not link.ended for link in tuple(self._links))

    def start(self) -> Self:
        """Listen; raises ``OSError`` when the port was taken meanwhile."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        try:
            self.accept()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Break every connection, close the listener and end the thread; may be called twice."""
        if self._loop is None or self._thread is None:
            return
        self._run(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cut(self) -> None:
        """Close all connections cleanly (FIN), as a server does that exits; new ones are accepted."""
        self._call(self._cut)

    def reset(self) -> None:
        """Reset all connections (RST), as a machine does that lost its state; new ones are accepted."""
        self._call(self._reset)

    def refuse(self) -> None:
        """Refuse new connections, as when nothing listens; those that are open stay."""
        self._run(self._stop_listening())

    def accept(self) -> None:
        """Accept new connections again, on the same port."""
        self._run(self._listen())

    def half_close(self) -> None:
        """Tell clients that the server will send no more (FIN one way); what they send is still passed on.

        TLS has no such state: raises ``NotImplementedError`` with ``tls``.
        """
        self._call(self._half_close)

    def delay(self, seconds: float) -> None:
        """Add latency in each direction; data that follows closely is not delayed twice."""
        self._call(lambda: setattr(self, "_delay_s", seconds))

    def throttle(self, bytes_per_s: float) -> None:
        """Limit each direction of each connection to so many bytes a second; 0 removes the limit."""
        self._call(lambda: setattr(self, "_bytes_per_s", bytes_per_s))

    def black_hole(self, on: bool = True) -> None:
        """Accept connections and data, and forward nothing; what was accepted is lost."""
        self._call(lambda: setattr(self, "_swallows", on))

    def cut_after(
        self, n_bytes: int, *, direction: Direction = "up", then: Callable[[], object] | None = None
    ) -> None:
        """Cut all connections after exactly ``n_bytes`` more in one direction.

        ``then`` is called after it, on a thread of its own: to kill the server, for instance.
        """
        self._call(lambda: (self._budget.update({direction: n_bytes}), self._then.update({direction: then})))

    def _call(self, action: Callable[[], _T]) -> _T:
        async def run() -> _T:
            return action()

        return self._run(run())

    def _run(self, step: Coroutine[Any, Any, _T]) -> _T:
        if self._loop is None:
            step.close()
            raise RuntimeError(f"{self!r} does not run: call start() first")
        return asyncio.run_coroutine_threadsafe(step, self._loop).result()

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, self.host, self.port, ssl=self._context)

    async def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is None:
            return
        for each in listener.sockets:
            asyncio.get_running_loop().remove_reader(each.fileno())
        await asyncio.sleep(0)  # what was accepted already is taken now: asyncio drops it after a close()
        # Without wait_closed(): since Python 3.12 it waits for the open connections too.
        listener.close()

    async def _shut_down(self) -> None:
        await self._stop_listening()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # What failed in its handshake never became a task, and what is closed waits until all is written:
        # asyncio would leave both to the collector.
        for transport in list(getattr(self._loop, "_transports", {}).values()):
            transport.abort()
        await asyncio.sleep(0)  # transports close in the next iteration of the loop, and those
        await asyncio.sleep(0)  # of TLS in the one after it

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.run(*self.target)
        except asyncio.CancelledError:
            link.abort()  # and no raise: before Python 3.12 the stream's callback fails on a cancelled task
        finally:
            self._links.discard(link)
            link.close()

    def _living(self) -> list[_Link]:
        return [link for link in self._links if not link.ended]

    def _cut(self) -> None:
        for link in self._living():
            self.cuts += 1
            link.close()

    def _cut_and_go_on(self, direction: Direction) -> None:
        self._cut()
        then = self._then.pop(direction, None)
        if then is not None:
            threading.Thread(target=then, name="fault-proxy-then", daemon=True).start()

    def _reset(self) -> None:
        for link in self._living():
            self.resets += 1
            link.reset()

    def _half_close(self) -> None:
        for link in self._living():
            if link.half_close():
                self.half_closes += 1

    def _spend(self, data: bytes, direction: Direction) -> tuple[bytes, bool]:
        """Return what of the data may pass, and whether the connections are to be cut after it."""
        budget = self._budget[direction]
        if budget is None:
            return data, False
        left = max(budget - len(data), 0)
        self._budget[direction] = left or None
        return data[:budget], not left

    def _count(self, size: int, direction: Direction) -> None:
        if direction == "up":
            self.bytes_up += size
        else:
            self.bytes_down += size


class _Link:
    """One client, and its connection to the server; lives on the proxy's loop."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.ended = False
        self._proxy, self._reader, self._client = proxy, reader, writer
        self._server: asyncio.StreamWriter | None = None
        self._muted = False

    async def run(self, host: str, port: int) -> None:
        """Pass data both ways until both sides have ended."""
        if self._proxy._swallows:
            await self._swallow()
            return
        try:
            back, self._server = await asyncio.open_connection(host, port)
        except OSError:
            return
        if self.ended:  # cut while it was being opened
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(self._reader, self._server, "up"))
                both.create_task(self._pump(back, self._client, "down"))
        except* (ConnectionError, ssl.SSLError):
            if not self.ended:
                self.reset()  # what broke one side breaks the other

    def close(self) -> None:
        self.ended = True
        for writer in self._writers():
            writer.close()

    def reset(self) -> None:
        for writer in self._writers():
            sock = writer.get_extra_info("socket")
            with suppress(OSError):  # the side that broke first has no socket any more
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        self.abort()

    def abort(self) -> None:
        self.ended = True
        for writer in self._writers():
            writer.transport.abort()

    def half_close(self) -> bool:
        """End what is sent to the client; return whether there was anything to end."""
        if self._muted:
            return False
        self._muted = True
        self._client.write_eof()
        return True

    def _writers(self) -> list[asyncio.StreamWriter]:
        return [writer for writer in (self._client, self._server) if writer is not None]

    async def _swallow(self) -> None:
        while data := await self._reader.read(_CHUNK):
            self._proxy.swallowed += len(data)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES_HELD)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._take(reader, held))
            both.create_task(self._give(held, writer, direction))

    async def _take(self, reader: asyncio.StreamReader, held: asyncio.Queue[tuple[float, bytes]]) -> None:
        now = asyncio.get_running_loop().time
        while True:
            data = await reader.read(_CHUNK)
            if self._proxy._swallows:
                self._proxy.swallowed += len(data)
            if not self._proxy._swallows or not data:
                await held.put((now() + self._proxy._delay_s, data))
            if not data:
                return

    async def _give(
        self, held: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        now = asyncio.get_running_loop().time
        while True:
            due, data = await held.get()
            await asyncio.sleep(due - now())
            if not data:
                self._end(writer)
                return
            await self._pass_on(data, writer, direction)

    def _end(self, writer: asyncio.StreamWriter) -> None:
        silent = self._proxy._swallows or (self._muted and writer is self._client)
        if not silent and not writer.is_closing():
            with suppress(OSError):  # the peer has reset it meanwhile
                writer.write_eof() if writer.can_write_eof() else writer.close()

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter, direction: Direction) -> None:
        if self.ended or (self._muted and direction == "down"):
            return
        allowed, then_cut = self._proxy._spend(data, direction)
        rate = self._proxy._bytes_per_s
        step = max(int(rate / 20), 1) if rate else _CHUNK
        for start in range(0, len(allowed), step):
            piece = allowed[start : start + step]
            if rate:
                await asyncio.sleep(len(piece) / rate)
            self._proxy._count(len(piece), direction)  # first: the receiver may look at the counter
            writer.write(piece)
            await writer.drain()
        if then_cut:
            self._proxy._cut_and_go_on(direction)
