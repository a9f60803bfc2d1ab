"""Batching: what a worker may attempt now, by rate, number and bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rambla_py.policy import RateLimit

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.delivery import LiveDelivery
    from rambla_py.runtime.target.mailbox import Mailbox
    from rambla_py.runtime.target.probing import Probing

__all__ = ["Batching"]


class Batching:
    """Takes batches from a mailbox; ``expire`` ends a delivery that expired before its attempt."""

    def __init__(
        self,
        config: ChannelConfig,
        mailbox: Mailbox,
        probing: Probing,
        expire: Callable[[LiveDelivery], None],
    ) -> None:
        self._config, self._mailbox, self._probing, self._expire = config, mailbox, probing, expire
        self._rate = RateLimit(config.rate_per_s) if config.rate_per_s else None

    @property
    def limited(self) -> bool:
        """Whether there is a rate limit."""
        return self._rate is not None

    def take(self, worker: int, limit: int, now: float, *, alone_ok: bool) -> list[LiveDelivery]:
        """Return up to ``limit`` deliveries that a worker may attempt now."""
        if self._rate is None:
            return self._take(worker, limit, now, alone_ok)
        with self._mailbox.lock:
            granted = self._rate.grant(limit, now)
            batch = self._take(worker, granted, now, alone_ok) if granted else []
            self._rate.give_back(granted - len(batch))
            return batch

    def take_suspects(self, most: int, now: float) -> list[LiveDelivery]:
        """Return the suspects that the isolated worker may attempt together."""
        with self._mailbox.lock:
            granted = most if self._rate is None else self._rate.grant(most, now)
            group = self._mailbox.take_suspects(granted) if granted else []
            if self._rate is not None:
                self._rate.give_back(granted - len(group))
        return self._without_expired(group, now)

    def wait_s(self, now: float) -> float | None:
        """Return the seconds to wait for the rate limit, or None."""
        if self._rate is None:
            return None
        with self._mailbox.lock:
            return self._rate.wait_s(now)

    def _take(self, worker: int, limit: int, now: float, alone_ok: bool) -> list[LiveDelivery]:
        with self._mailbox.lock:
            may_have_expired = self._mailbox.expires_before(now)
            batch = self._mailbox.take(worker, limit, alone_ok=alone_ok)
        if may_have_expired:
            batch = self._without_expired(batch, now)
        if self._probing.scoped:
            batch = self._probing.hold_known(batch)
        if self._config.batch_bytes is not None and len(batch) > 1:
            batch = self._cut(batch, self._config.batch_bytes)
        return batch

    def _without_expired(self, batch: Sequence[LiveDelivery], now: float) -> list[LiveDelivery]:
        kept = []
        for at, delivery in enumerate(batch, 1):
            expires_at = delivery.expires_at
            if expires_at is not None and expires_at <= now:
                if delivery.holds_lane and at < len(batch) and batch[at].key == delivery.key:
                    delivery.pass_lane_to(batch[at])  # the next of its run
                self._expire(delivery)
            else:
                kept.append(delivery)
        return kept

    def _cut(self, batch: list[LiveDelivery], batch_bytes: int) -> list[LiveDelivery]:
        """Return what fits into ``batch_bytes``, at least one delivery, and put the rest back."""
        total = 0
        for at, delivery in enumerate(batch):
            total += _size(delivery)
            if total > batch_bytes and at:
                self._mailbox.put_back(batch[at:])
                return batch[:at]
        return batch


def _size(delivery: LiveDelivery) -> int:
    try:
        return 0 if delivery.calls else len(delivery.body())
    except Exception:  # the attempt will fail with the same error
        return 0
