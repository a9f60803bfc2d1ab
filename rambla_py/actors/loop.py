"""This module runs what is async of a handler: an event loop on a thread of its own, one for each worker."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from rambla_py.actors.inside import enter_worker, leave_worker

if TYPE_CHECKING:
    from rambla_py.actors.session import Session
    from rambla_py.delivery import Delivery

__all__ = ["Loop"]

_PLAIN = frozenset({type(None), bool, int, str, bytes, list, tuple, dict})
"""What handlers answer most, and is not awaitable; to ask that of anything else takes a microsecond."""


class Loop:
    """An event loop that runs from its first use until ``close``, so that a driver's own tasks live on."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[asyncio.Task[None], Session] = {}

    def resolved(self, answer: Any) -> Any:
        """Return what user code answered; when that is awaitable, run it and wait for its result."""
        if type(answer) in _PLAIN or not inspect.isawaitable(answer):
            return answer
        error, result = asyncio.run_coroutine_threadsafe(_awaited(answer), self._running()).result()
        if error is not None:
            raise error
        return result

    def deliver_each(self, session: Session, batch: Sequence[Delivery], handle: Callable[..., Any]) -> None:
        """Run ``handle(message, options, state)`` for all of a batch at once; each settles by itself."""

        def start() -> None:
            for delivery in batch:
                self._spawn(session, _settle_one(session, delivery, handle))

        self._running().call_soon_threadsafe(start)

    def deliver_together(
        self,
        session: Session,
        batch: Sequence[Delivery],
        handle: Callable[..., Any],
        settle: Callable[[BaseException | None, Any], None],
    ) -> None:
        """Run ``handle(batch, state)``, and give what it raised or returned to ``settle``."""

        def start() -> None:
            self._spawn(session, _settle_together(session, batch, handle, settle))

        self._running().call_soon_threadsafe(start)

    def cancel(self, session: Session) -> None:
        """Cancel what still runs for a session that is over."""

        def cancel() -> None:
            for task, owner in list(self._tasks.items()):
                if owner is session:
                    task.cancel()

        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # closed meanwhile: nothing runs
                self._loop.call_soon_threadsafe(cancel)

    def close(self) -> None:
        """End the loop with everything on it; the thread follows by itself."""
        loop, self._loop = self._loop, None
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(loop.stop)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_run, args=(self._loop,), name=f"{self._name} loop", daemon=True).start()
        return self._loop

    def _spawn(self, session: Session, work: Coroutine[Any, Any, None]) -> None:
        # The loop holds its tasks weakly; this holds them until they are done.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = session
        task.add_done_callback(lambda done: self._tasks.pop(done, None))


async def _awaited(awaitable: Any) -> tuple[BaseException | None, Any]:
    """Return an error as a value: a SystemExit that left its task would end the event loop."""
    try:
        return None, await awaitable
    except BaseException as error:
        return error, None


async def _settle_one(session: Session, delivery: Delivery, handle: Callable[..., Any]) -> None:
    try:
        answer = await handle(delivery, delivery.options, session.state)
    except BaseException as error:  # user code: whatever it raises is a failed attempt
        answer = error
    session.settle(delivery, answer)


async def _settle_together(
    session: Session,
    batch: Sequence[Delivery],
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
