"""Bounded threads for calls that an event loop must not make itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

__all__ = ["MAX_THREADS", "Threads"]

MAX_THREADS = 8
"""Threads of one store; further calls wait for one of them."""

_T = TypeVar("_T")


class Threads:
    """At most ``MAX_THREADS`` threads, started when they are needed; a forked child starts its own."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._owner = os.getpid()

    async def run(self, call: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        """Run a call on a thread, and wait for it; if the wait is cancelled, the call continues."""
        if self._executor is None or self._owner != os.getpid():
            self._owner = os.getpid()
            self._executor = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="rambla-state")
        call_now = partial(call, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, call_now)

    def close(self) -> None:
        """Let the threads end after the calls that they run."""
        executor, self._executor = self._executor, None
        if executor is not None and self._owner == os.getpid():
            executor.shutdown(wait=False)
