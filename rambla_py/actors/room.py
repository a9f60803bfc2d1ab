"""This module decides what becomes of a message for which a mailbox has no room: ``overflow``."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from rambla_py.actors.inside import must_not_wait
from rambla_py.errors import MailboxFullError

if TYPE_CHECKING:
    from rambla_py.actors.mailbox import Mailbox
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.delivery import Delivery

__all__ = ["Room"]


class Room:
    """The room in one mailbox, and who waits for it: first come, first served.

    ``drop`` ends a delivery that has to make room for a newer one.
    """

    def __init__(self, config: ChannelConfig, mailbox: Mailbox, drop: Callable[[Delivery], None]) -> None:
        self._config, self._mailbox, self._drop = config, mailbox, drop
        self.waiters: deque[Callable[[], None]] = deque()

    @property
    def waits(self) -> bool:
        """Whether ``overflow`` is to wait."""
        return self._config.overflow == "block"

    def has(self, number: int) -> bool:
        """Say whether ``number`` messages fit now."""
        return len(self._mailbox.ready) + number <= self._mailbox.room

    def check(self, number: int) -> None:
        """Raise ``MailboxFullError`` when ``number`` messages do not fit and nobody may wait here."""
        if not self.has(number) and self.waits and must_not_wait():
            raise self._full()

    def make(self, *, may_raise: bool, may_wait: bool) -> bool:
        """Do what ``overflow`` says; return whether one more may enter.

        With ``may_raise`` a mailbox that stays full raises ``MailboxFullError``.
        """
        overflow = self._config.overflow
        if overflow == "drop_oldest":
            return self._drop_oldest()
        waited_s = None
        if self.waits and may_wait and not must_not_wait():
            waited_s = self._config.publish_timeout_s
            if self.wait(waited_s):
                return True
        if may_raise and overflow != "drop_newest":
            raise self._full(waited_s)
        return False

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is a place; say whether there is, within ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while self._mailbox.full:
            gate = threading.Lock()
            gate.acquire()
            self.when_free(gate.release)
            if not gate.acquire(timeout=max(0.0, deadline - time.monotonic())):
                self.forget(gate.release)
                return not self._mailbox.full
        return True

    async def wait_async(self, began: float) -> None:
        """Wait without blocking the loop where ``overflow`` is to wait.

        Raises ``MailboxFullError`` when ``publish_timeout_s`` have passed since ``began``.
        """
        loop, config = asyncio.get_running_loop(), self._config
        while self._mailbox.full and self.waits:
            left_s = began + config.publish_timeout_s - time.monotonic()
            if left_s <= 0:
                raise self._full(config.publish_timeout_s)
            free = asyncio.Event()
            wake = functools.partial(_tell, loop, free)
            self.when_free(wake)
            try:
                await asyncio.wait_for(free.wait(), left_s)
            except TimeoutError:
                continue
            finally:
                if not free.is_set():
                    self.forget(wake)

    def when_free(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` once, when a place may have become free; at once when there is one."""
        self.waiters.append(wake)
        if not self._mailbox.full:
            self.offer()

    def forget(self, wake: Callable[[], None]) -> None:
        """Wait no more; a place offered meanwhile goes to the next."""
        try:
            self.waiters.remove(wake)
        except ValueError:
            self.offer()

    def offer(self) -> None:
        """Wake as many as there are free places; each looks again."""
        mailbox = self._mailbox
        for _ in range(max(0, mailbox.room - len(mailbox.ready))):
            try:
                self.waiters.popleft()()
            except IndexError:
                return

    def _drop_oldest(self) -> bool:
        oldest = self._mailbox.take_oldest()
        if oldest is not None:
            self._drop(oldest)
        return oldest is not None

    def _full(self, waited_s: float | None = None) -> MailboxFullError:
        config = self._config
        return MailboxFullError(config.service, config.channel, config.max_pending, waited_s=waited_s)


def _tell(loop: asyncio.AbstractEventLoop, free: asyncio.Event) -> None:
    # The loop may have ended while its task waited: nobody is left to tell.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(free.set)
