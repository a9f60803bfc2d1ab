"""Back-pressure of one mailbox: its bounds, ``overflow``, and the publishers that wait for room."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from rambla_py.errors import MailboxFullError

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.delivery import LiveDelivery
    from rambla_py.runtime.target.mailbox import Mailbox

__all__ = ["Answer", "Backpressure"]

Answer = Literal["room", "dropped", "full", "key full"]
"""Whether a delivery fits: ``room``; ``dropped`` by ``overflow``; no room now in the mailbox, or its key."""


class Backpressure:
    """The room in one mailbox, and the publishers that wait for it, in FIFO order.

    ``drop`` ends a delivery to make room for a newer one.
    """

    def __init__(self, config: ChannelConfig, mailbox: Mailbox, drop: Callable[[LiveDelivery], None]) -> None:
        self._config, self._mailbox, self._drop = config, mailbox, drop
        self._max_key = config.max_pending_key or max(1, config.max_pending // 2)
        self.waiters: deque[Callable[[], None]] = deque()

    @property
    def waits(self) -> bool:
        """Whether a publish may wait for room."""
        return self._config.overflow == "block"

    def has(self, number: int) -> bool:
        """Return whether ``number`` messages fit now."""
        return self._mailbox.has_room(number)

    def make(self, delivery: LiveDelivery) -> Answer:
        """Make room for one delivery according to ``overflow``; return the result."""
        overflow, key = self._config.overflow, delivery.key
        if key is not None and self._mailbox.behind_a_retry(key) >= self._max_key:
            return "dropped" if overflow.startswith("drop") else "key full"
        if not self._mailbox.full:
            return "room"
        if overflow == "drop_oldest":
            return "room" if self._drop_oldest() else "dropped"
        return "dropped" if overflow == "drop_newest" else "full"

    def error(self, waited_s: float | None = None, *, key: str | None = None) -> MailboxFullError:
        """Return the error for a publish without room in the mailbox or, with ``key``, behind its key."""
        config = self._config
        most = config.max_pending if key is None else self._max_key
        return MailboxFullError(config.service, config.channel, most, waited_s=waited_s, key=key)

    def when_free(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` once, when a place may have become free; at once if there is one."""
        self.waiters.append(wake)
        if not self._mailbox.full:
            self.offer()

    def forget(self, wake: Callable[[], None]) -> None:
        """Stop waiting; a place that was offered meanwhile goes to the next publisher."""
        try:
            self.waiters.remove(wake)
        except ValueError:
            self.offer()

    def offer(self) -> None:
        """Wake one publisher for each free place; each checks for room again."""
        for _ in range(self._mailbox.free_places()):
            try:
                self.waiters.popleft()()
            except IndexError:
                return

    def _drop_oldest(self) -> bool:
        oldest = self._mailbox.take_oldest()
        if oldest is not None:
            self._drop(oldest)
        return oldest is not None
