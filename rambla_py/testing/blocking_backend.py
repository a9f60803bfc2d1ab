"""An ``AsyncSqlBackend`` behind the methods of ``SqlBackend``, so that one suite tests both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from functools import cache
from types import TracebackType
from typing import Any, Self

from rambla_py.sql.async_backend import AsyncRowStream, AsyncSqlBackend, AsyncTransaction

__all__ = ["BlockingBackend"]

_TIMEOUT_S = 60.0
_Call = tuple[Callable[[], Coroutine[Any, Any, Any]], "Future[Any]"]
_Queue = asyncio.Queue[_Call | None]


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of all blocking backends; it runs in a thread until the process ends."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="blocking-backends", daemon=True).start()
    return loop


class BlockingBackend:
    """Runs each call of a thread in one task of that thread, to which its transactions belong."""

    def __init__(self, url: str, **options: Any) -> None:
        self._backend = AsyncSqlBackend(url, **options)
        self._local = threading.local()

    def __repr__(self) -> str:
        return repr(self._backend)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)  # types, last_error, database

    def connect(self) -> Self:
        self._call(self._backend.connect)
        return self

    def disconnect(self) -> None:
        self._call(self._backend.disconnect)

    def ping(self, **options: Any) -> bool:
        return bool(self._call(lambda: self._backend.ping(**options)))

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def execute(self, *args: Any, **options: Any) -> Any:
        return self._call(lambda: self._backend.execute(*args, **options))

    def execute_many(self, *args: Any, **options: Any) -> Any:
        return self._call(lambda: self._backend.execute_many(*args, **options))

    def stream(self, *args: Any, **options: Any) -> _Stream:
        async def opened() -> AsyncRowStream:
            return await self._backend.stream(*args, **options).__aenter__()

        return _Stream(self, self._call(opened))

    def transaction(self, **options: Any) -> _Transaction:
        async def made() -> AsyncTransaction:
            return self._backend.transaction(**options)

        return _Transaction(self, self._call(made))

    def begin(self, **options: Any) -> None:
        self._call(lambda: self._backend.begin(**options))

    def commit(self) -> None:
        self._call(self._backend.commit)

    def rollback(self) -> None:
        self._call(self._backend.rollback)

    def run(self, work: Callable[[Any], Any], **options: Any) -> Any:
        async def in_thread(_: AsyncSqlBackend) -> Any:
            # The calls of ``work`` come from another thread; this task, which has the transaction, runs them.
            queue: _Queue = asyncio.Queue()

            def worked() -> Any:
                self._local.queue = queue
                try:
                    return work(self)
                finally:
                    self._local.queue = None
                    _loop().call_soon_threadsafe(queue.put_nowait, None)

            job = asyncio.get_running_loop().run_in_executor(None, worked)
            await _serve(queue)
            return await job

        return self._call(lambda: self._backend.run(in_thread, **options))

    def _call(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        queue: _Queue | None = getattr(self._local, "queue", None)
        if queue is None:
            self._local.task = _ThreadTask()
            queue = self._local.queue = self._local.task.queue
        future: Future[Any] = Future()
        _loop().call_soon_threadsafe(queue.put_nowait, (make, future))
        return future.result(_TIMEOUT_S)


class _ThreadTask:
    """The task of a thread; it ends when the thread does."""

    def __init__(self) -> None:
        self.queue: _Queue = asyncio.Queue()
        asyncio.run_coroutine_threadsafe(_serve(self.queue), _loop())

    def __del__(self) -> None:
        _loop().call_soon_threadsafe(self.queue.put_nowait, None)


async def _serve(queue: _Queue) -> None:
    """Run the calls of one thread, one after the other."""
    while (call := await queue.get()) is not None:
        make, future = call
        try:
            future.set_result(await make())
        except BaseException as error:
            future.set_exception(error)


class _Transaction:
    def __init__(self, backend: BlockingBackend, transaction: AsyncTransaction) -> None:
        self._backend, self._transaction = backend, transaction

    def __enter__(self) -> Self:
        self._backend._call(self._transaction.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._backend._call(lambda: self._transaction.__aexit__(kind, error, trace))


class _Stream(Iterator[dict[str, Any]]):
    def __init__(self, backend: BlockingBackend, stream: AsyncRowStream) -> None:
        self._backend, self._stream = backend, stream

    def __next__(self) -> dict[str, Any]:
        async def row() -> Any:
            return await anext(self._stream, None)

        found: dict[str, Any] | None = self._backend._call(row)
        if found is None:
            raise StopIteration
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._backend._call(self._stream.close)
