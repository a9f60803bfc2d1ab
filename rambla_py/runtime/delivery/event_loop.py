"""Event loop of one worker, for handlers that are async."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from rambla_py._internal.side_threads import run_on_thread
from rambla_py.runtime.worker_threads import enter_worker, leave_worker

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.delivery import LiveDelivery
    from rambla_py.runtime.target.in_flight import InFlight

__all__ = ["PLAIN_ANSWERS", "EventLoop", "side_threads_of"]

PLAIN_ANSWERS = frozenset({type(None), bool, int, str, bytes, list, tuple, dict})
"""The most common answers, which are not awaitable; asking ``inspect`` takes a microsecond."""


_USER_CODE = (
    *("handle_publish", "handle_batch", "handle_deliveries", "connect", "close", "ping"),
    *("on_success", "on_failure", "on_fatal", "on_outcome"),
)


def side_threads_of(config: ChannelConfig) -> int:
    """Return how many threads a worker of this channel needs beside its own."""
    callbacks = config.policy.callbacks
    user_code = [getattr(config.handler, name, None) for name in _USER_CODE]
    user_code += [getattr(callbacks, name, None) for name in _USER_CODE]
    is_async = any(inspect.iscoroutinefunction(code) for code in user_code)
    return config.handler._side_threads + is_async


class EventLoop:
    """An event loop that runs from its first use until ``close``, so that a driver's tasks keep running."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[asyncio.Task[None], tuple[InFlight, Sequence[LiveDelivery]]] = {}

    def resolved(self, answer: Any) -> Any:
        """Return an answer of user code; if it is awaitable, run it and wait for its result."""
        if type(answer) in PLAIN_ANSWERS or not inspect.isawaitable(answer):
            return answer
        try:
            loop = self._running()
        except RuntimeError:
            if inspect.iscoroutine(answer):
                answer.close()  # otherwise the collector warns of it
            raise
        error, result = asyncio.run_coroutine_threadsafe(_awaited(answer), loop).result()
        if error is not None:
            raise error
        return result

    def deliver_each(
        self, session: InFlight, batch: Sequence[LiveDelivery], handle: Callable[..., Any]
    ) -> None:
        """Run ``handle(message, options, state)`` concurrently for a batch; each settles by itself."""

        def start() -> None:
            for delivery in batch:
                self._spawn(session, (delivery,), _settle_one(session, delivery, handle))

        self._running().call_soon_threadsafe(start)

    def deliver_together(
        self,
        session: InFlight,
        batch: Sequence[LiveDelivery],
        handle: Callable[..., Any],
        settle: Callable[[BaseException | None, Any], None],
    ) -> None:
        """Run ``handle(batch, state)``, and pass what it raised or returned to ``settle``."""

        def start() -> None:
            self._spawn(session, batch, _settle_together(session, batch, handle, settle))

        self._running().call_soon_threadsafe(start)

    def cancel(self, session: InFlight) -> None:
        """Cancel the attempts of a closed session."""

        def cancel() -> None:
            for task, (owner, _) in list(self._tasks.items()):
                if owner is session:
                    task.cancel()

        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # closed meanwhile: nothing runs
                self._loop.call_soon_threadsafe(cancel)

    def cancel_attempts(self, deliveries: Sequence[LiveDelivery]) -> None:
        """Cancel the attempts of these deliveries, whose answers are ignored from now on."""
        over = {id(delivery) for delivery in deliveries}

        def cancel() -> None:
            for task, (_, batch) in list(self._tasks.items()):
                if all(id(delivery) in over for delivery in batch):
                    task.cancel()

        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # closed meanwhile: nothing runs
                self._loop.call_soon_threadsafe(cancel)

    def close(self) -> None:
        """Stop the loop and everything on it; its thread then ends by itself."""
        loop, self._loop = self._loop, None
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(loop.stop)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            loop = asyncio.new_event_loop()
            try:
                run_on_thread(functools.partial(_run, loop), f"{self._name} loop")
            except RuntimeError:  # the interpreter is ending and starts no threads
                loop.close()
                raise
            self._loop = loop
        return self._loop

    def _spawn(
        self, session: InFlight, batch: Sequence[LiveDelivery], work: Coroutine[Any, Any, None]
    ) -> None:
        # The loop has only weak references to its tasks; this keeps them until they are done.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = (session, batch)
        task.add_done_callback(lambda done: self._tasks.pop(done, None))


async def _awaited(awaitable: Any) -> tuple[BaseException | None, Any]:
    """Return an error as a value: a SystemExit raised from a task would stop the event loop."""
    try:
        return None, await awaitable
    except BaseException as error:
        return error, None


async def _settle_one(session: InFlight, delivery: LiveDelivery, handle: Callable[..., Any]) -> None:
    try:
        answer = await handle(delivery, delivery.options, session.state)
    except BaseException as error:  # user code: whatever it raises is a failed attempt
        answer = error
    session.settle(delivery, answer)


async def _settle_together(
    session: InFlight,
    batch: Sequence[LiveDelivery],
    handle: Callable[..., Any],
    settle: Callable[[BaseException | None, Any], None],
) -> None:
    try:
        settle(None, await handle(batch, session.state))
    except BaseException as error:  # user code
        settle(error, None)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    enter_worker()
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        leave_worker()
        loop.close()
