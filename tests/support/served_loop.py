"""An asyncio server on a thread of its own, which leaves nothing open when it ends."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine
from typing import Any, Self

from rambla_py.testing.ports import HOST, free_port


class ServedLoop:
    """What the web servers of tests share: subclasses write ``_serve``, which has one connection."""

    def __init__(self, tls: ssl.SSLContext | None, port: int | None = None) -> None:
        self.host, self.port = HOST, port or free_port()
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=type(self).__name__, daemon=True)
        self._listener: asyncio.Server | None = None

    def start(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def close(self) -> None:
        self._run(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    def _run(self, step: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result()

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, self.host, self.port, ssl=self._tls)

    async def _shut_down(self) -> None:
        if self._listener is not None:
            self._listener.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # What failed in its TLS handshake never became a task, and asyncio would leave it to the collector.
        for transport in list(self._loop._transports.values()):
            transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
