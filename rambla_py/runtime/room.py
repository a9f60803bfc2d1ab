"""Room in the mailboxes of the targets of one call."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rambla_py.errors import MailboxFullError

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.runtime.target.target import Target

__all__ = ["CallAdmission", "RoomSource"]

Wake = Callable[[], None]


class CallAdmission:
    """Admits the deliveries of one call to the mailboxes of its targets, as each has room.

    ``admit`` accepts deliveries that have room. The others wait if ``overflow = "block"``, until their target
    has given no room for ``publish_timeout_s``; then, or at once with another ``overflow``, they are left
    out. In a fan-out, a target that has not been ``up`` for that long is not waited for. ``finish`` drops
    what was left out, or raises if no delivery was accepted.
    """

    def __init__(
        self, targets: Sequence[Target], deliveries: Sequence[LiveDelivery], now: float, *, may_wait: bool
    ) -> None:
        number = len(targets)
        self._queues = {target: deque(deliveries[at::number]) for at, target in enumerate(targets)}
        self._moved_at = dict.fromkeys(targets, now)
        self._refused_by: dict[Target, MailboxFullError] = {}
        self._left_out: list[tuple[Target, LiveDelivery]] = []
        self._reserved: dict[Target, int] = {}
        self._may_wait = may_wait
        self.accepted = self.reached_most = False

    def check_places(self, now: float) -> None:
        """Raise ``MailboxFullError``, with nothing accepted, if a call that may not wait would have to."""
        for target, queue in self._queues.items():
            waited_for = not self._may_wait and self._worth_waiting(target, now)
            if waited_for and not target.backpressure.has(len(queue)):
                self._refused_by[target] = target.backpressure.error()
        self._raise()

    def admit(self, now: float, most: int | None = None) -> list[Target]:
        """Accept what there is room for, at most ``most`` deliveries; return the targets to wait for.

        ``reached_most`` is True afterwards if ``most`` was the limit.
        """
        left = most or sum(map(len, self._queues.values()))
        for target, queue in self._queues.items():
            while queue and left:
                if not self._admit_one(target, queue[0], now):
                    break
                queue.popleft()
                left -= 1
            if queue and left and not (self._may_wait and self._worth_waiting(target, now)):
                self._leave_out(target, target.backpressure.error(self._waited_s(target)))
        self.reached_most = not left
        return [target for target, queue in self._queues.items() if queue]

    def deadline(self, waiting: Sequence[Target]) -> float:
        """Return when to stop waiting for room in one of these targets, on the monotonic clock."""
        return min(self._moved_at[target] + target.config.publish_timeout_s for target in waiting)

    def finish(self) -> None:
        """Drop what was left out; raises ``MailboxFullError`` instead if nothing was accepted."""
        if not self.accepted:
            self._raise()
        for target, delivery in self._left_out:
            target.admission.drop(delivery)

    def give_up(self) -> None:
        """Raise ``MailboxFullError`` for the targets that still have no room, with nothing accepted."""
        for target in self._queues:
            if self._queues[target] and target not in self._reserved:
                self._refused_by.setdefault(target, target.backpressure.error(self._waited_s(target)))
        self.end_reservation()
        self._raise()

    def reserve(self) -> list[Target]:
        """Reserve room for everything; return the targets that do not have it yet."""
        missing = []
        for target, queue in self._queues.items():
            if target not in self._reserved:
                if not target.mailbox.reserve(len(queue)):
                    missing.append(target)
                else:
                    self._reserved[target] = len(queue)
        return missing

    def end_reservation(self) -> None:
        """Give back what was reserved, right before it is used or because it is not needed."""
        while self._reserved:
            target, number = self._reserved.popitem()
            target.mailbox.lend(-number)
            target.backpressure.offer()

    def admit_all(self) -> None:
        """Accept everything, regardless of room."""
        for target, queue in self._queues.items():
            while queue:
                target.admission.admit(queue.popleft())
        self.accepted = True

    def _admit_one(self, target: Target, delivery: LiveDelivery, now: float) -> bool:
        answer = target.admission.try_admit(delivery)
        if answer == "full":
            return False
        if answer == "key full":
            self._refused_by.setdefault(target, target.backpressure.error(key=delivery.key))
            self._left_out.append((target, delivery))
        else:
            self.accepted = True
            self._moved_at[target] = now
        return True

    def _leave_out(self, target: Target, error: MailboxFullError) -> None:
        self._refused_by.setdefault(target, error)
        queue = self._queues[target]
        self._left_out.extend((target, delivery) for delivery in queue)
        queue.clear()

    def _worth_waiting(self, target: Target, now: float) -> bool:
        patience_s = target.config.publish_timeout_s
        if not target.backpressure.waits or now - self._moved_at[target] >= patience_s:
            return False
        return len(self._queues) == 1 or target.state.away_s() <= patience_s

    def _waited_s(self, target: Target) -> float | None:
        waits = self._may_wait and target.backpressure.waits
        return target.config.publish_timeout_s if waits else None

    def _raise(self) -> None:
        for target in self._refused_by:
            target.refuse(1)
        error = next(iter(self._refused_by.values()), None)
        if error is not None:
            raise error


class RoomSource:
    """Event source for room in one of several mailboxes, for the functions of ``waiting``."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = targets
        self._call: Wake | None = None

    def when_set(self, wake: Wake) -> None:
        """Call ``wake`` once, as soon as one of the targets may have room."""
        pending = [wake]

        def once() -> None:
            if pending:
                pending.pop()()

        self._call = once
        for target in self._targets:
            target.backpressure.when_free(once)

    def forget(self, wake: Wake) -> None:
        """Stop waiting; a place that was offered meanwhile goes to the next publisher."""
        call, self._call = self._call, None
        if call is not None:
            for target in self._targets:
                target.backpressure.forget(call)
