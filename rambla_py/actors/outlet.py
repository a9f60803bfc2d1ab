"""This module decides what of a mailbox a worker may attempt now: by rate, batch size, bytes and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rambla_py.policy import RateLimit

if TYPE_CHECKING:
    from rambla_py.actors.mailbox import Mailbox
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.delivery import Delivery

__all__ = ["Outlet"]


class Outlet:
    """Where the workers of a target take from; ``expire`` ends a delivery that is over before its attempt."""

    def __init__(self, config: ChannelConfig, mailbox: Mailbox, expire: Callable[[Delivery], None]) -> None:
        self._config, self._mailbox, self._expire = config, mailbox, expire
        self._rate = RateLimit(config.rate_per_s) if config.rate_per_s else None
        self._expires_s = config.policy.expires_s
        self.may_wait = bool(self._rate is not None or config.batch_timeout_s)
        """Whether ``wait_s`` is worth a question."""

    def take(self, worker: int, limit: int, now: float, *, alone_ok: bool) -> list[Delivery]:
        """Return what that worker may attempt now, at most ``limit``."""
        if self._rate is None:
            return self._take(worker, limit, now, alone_ok)
        with self._mailbox.lock:
            granted = self._rate.grant(limit, now)
            batch = self._take(worker, granted, now, alone_ok) if granted else []
            self._rate.give_back(granted - len(batch))
            return batch

    def wait_s(self, now: float, *, draining: bool) -> float | None:
        """Return how long to wait although messages do: for a batch to fill, or for the rate; else None."""
        config, waiting = self._config, len(self._mailbox)
        if not waiting:
            return None
        if config.batch_timeout_s and waiting < config.batch_size and not draining:
            oldest_at = self._mailbox.oldest_at()
            left_s = 0.0 if oldest_at is None else oldest_at + config.batch_timeout_s - now
            if left_s > 0:
                return left_s
        with self._mailbox.lock:
            return self._rate.wait_s(now) if self._rate is not None else None

    def _take(self, worker: int, limit: int, now: float, alone_ok: bool) -> list[Delivery]:
        plain, expires_s = self._mailbox.plain, self._expires_s
        batch = self._mailbox.take(worker, limit, alone_ok=alone_ok)
        # The oldest of a plain batch tells for all of it: they expire in their order.
        if batch and not (plain and (expires_s is None or batch[0].accepted_at + expires_s > now)):
            batch = self._without_expired(batch, now)
        if self._config.batch_bytes is not None and len(batch) > 1:
            batch = self._cut(batch, self._config.batch_bytes)
        return batch

    def _without_expired(self, batch: Sequence[Delivery], now: float) -> list[Delivery]:
        kept = []
        for delivery in batch:
            expires_at = delivery.expires_at
            if expires_at is not None and expires_at <= now:
                self._expire(delivery)
            else:
                kept.append(delivery)
        return kept

    def _cut(self, batch: list[Delivery], batch_bytes: int) -> list[Delivery]:
        """Keep what fits into ``batch_bytes``, one delivery at least, and put the rest back."""
        total = 0
        for at, delivery in enumerate(batch):
            total += _size(delivery)
            if total > batch_bytes and at:
                self._mailbox.put_back(batch[at:])
                return batch[:at]
        return batch


def _size(delivery: Delivery) -> int:
    try:
        return 0 if delivery.calls else len(delivery.body())
    except Exception:  # the attempt will say what is wrong with it
        return 0
