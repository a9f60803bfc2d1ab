"""The life of one tracker: its app, its account and its listeners, from its start to its close."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Sequence
from typing import cast

from rambla_py._internal.durations import DEFAULT, Default, time_limit
from rambla_py._internal.waiting import warn_in_event_loop
from rambla_py.analytics.account import Account
from rambla_py.analytics.connecting import Connected
from rambla_py.analytics.errors import AnalyticsError
from rambla_py.analytics.listeners import Listeners
from rambla_py.analytics.retention import delete_user
from rambla_py.analytics.routing import channels_of
from rambla_py.errors import NotRunningError, ReceiptTimeoutError
from rambla_py.runtime.flushing import Flush
from rambla_py.telemetry.observer import Observer

__all__ = ["Lifetime"]

Repeated = Callable[[float], float | None]
"""Called with the monotonic time; returns when to call it again."""


class Lifetime:
    """Starts the app if the tracker owns it, counts what ends on the tracker's channels, and stops.

    It runs on the app's timer, and is reset in a forked child; ``resets`` are called there too.
    """

    def __init__(self, connected: Connected, channels: Sequence[str]) -> None:
        self.app, self._owned = connected.app, connected.owned
        self._lifecycle = self.app._lifecycle
        self._names = {one.channel for name in channels for one in channels_of(self.app, name)}
        self.listeners = Listeners(lambda at: self._lifecycle.wake_companion(self, at))
        self.account = Account(self._names, self.listeners.report)
        self.resets: list[Callable[[], None]] = [self.account.reset, self.listeners.reset]
        self._repeated: list[Repeated] = [self.listeners.call_due]
        self.closed = False
        self._ends: list[Callable[[], None]] = []

    def start(self) -> None:
        """Start the app if it is the tracker's own, and count from now on."""
        self._ends = [self.app.observe(cast(Observer, self.account)), self._lifecycle.accompany(self)]
        if self._owned:
            self.app.start()

    # -- on the timer of the app ----------------------------------------------------------------------

    def run(self, now: float) -> float | None:
        """Do what is due."""
        due = [at for repeated in tuple(self._repeated) if (at := repeated(now)) is not None]
        return min(due, default=None)

    def after_fork(self) -> None:
        """Begin again in a forked child."""
        for reset in self.resets:
            reset()

    def stopped(self) -> None:
        """Do nothing: the account is that of all runs."""

    def repeat(self, repeated: Repeated, at: float) -> Callable[[], None]:
        """Call a function on the timer, at that time first; return a function that ends it."""
        self._repeated.append(repeated)
        self._lifecycle.wake_companion(self, at)

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._repeated.remove(repeated)

        return end

    # -- end ------------------------------------------------------------------------------------------

    def flush(self, timeout_s: float | None, channels: Container[str] | None = None) -> bool:
        """Wait until all accepted by now, on these channels or on all, has ended; return whether it has."""
        limit, flush = self._limit(timeout_s), self._flush(channels or self._names)
        if flush is None:
            return self.account.audit().pending == 0
        if not flush.done:
            warn_in_event_loop("flush()", "aflush()")
        try:
            return flush.wait(limit, self._quiet_s)
        except ReceiptTimeoutError:
            return False

    async def aflush(self, timeout_s: float | None) -> bool:
        """Wait as ``flush`` does, without blocking the event loop."""
        limit, flush = self._limit(timeout_s), self._flush(self._names)
        if flush is None:
            return self.account.audit().pending == 0
        try:
            return await flush.wait_async(limit, self._quiet_s)
        except ReceiptTimeoutError:
            return False

    def delete_user(self, user_id: str) -> dict[str, int]:
        """Deliver what waits for the SQL databases of the channels, and delete the events of a user there."""
        deleted: dict[str, int] = {}
        targets = [target for target in self.app.config.every_channel() if target.channel in self._names]
        databases = [target for target in targets if hasattr(target.handler, "backend")]
        if not databases:
            names = ", ".join(target.name for target in targets)
            raise AnalyticsError(f"{names}: events of a user can be deleted from SQL databases only")
        if not self.flush(None, {target.channel for target in databases}):
            raise AnalyticsError(
                "nothing was deleted, because events still wait to be delivered and may be of this user; "
                "call delete_user again when the database answers"
            )
        for target in databases:
            with target.handler.backend(target.settings) as db:  # type: ignore[attr-defined]
                for table, number in delete_user(db, user_id, target.options.tables).items():
                    deleted[table] = deleted.get(table, 0) + number
        return deleted

    def close(self, timeout_s: float | None) -> None:
        """Stop the app if it is the tracker's own, else flush; both within ``timeout_s``."""
        if self._owned:
            self.app.stop(timeout_s)
        elif not self.closed:
            self.flush(timeout_s)
        self._ended()

    async def aclose(self, timeout_s: float | None) -> None:
        """Close as ``close`` does, without blocking the event loop."""
        if self._owned:
            await self.app.astop(timeout_s)
        elif not self.closed:
            await self.aflush(timeout_s)
        self._ended()

    def _ended(self) -> None:
        self.closed = True
        ends, self._ends = self._ends, []
        for end in ends:
            end()
        self.listeners.call_all()

    def _flush(self, channels: Container[str]) -> Flush | None:
        try:
            return self._lifecycle.running().flush(channels)
        except NotRunningError:
            return None

    @property
    def _quiet_s(self) -> float:
        return self.app.config.rambla.result_timeout_s

    @staticmethod
    def _limit(timeout_s: float | None) -> float | Default:
        return DEFAULT if timeout_s is None else time_limit(timeout_s)
