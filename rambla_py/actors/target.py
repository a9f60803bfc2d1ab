"""This module is the front of one (service, channel) pair: where publishers hand in and workers take out."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rambla_py.actors.ledger import Ledger
from rambla_py.actors.mailbox import Mailbox
from rambla_py.actors.outlet import Outlet
from rambla_py.actors.room import Room, must_not_wait
from rambla_py.actors.wakes import Wakes
from rambla_py.config.options import merge_message
from rambla_py.delivery import Delivery
from rambla_py.errors import DroppedError, ExpiredError, MailboxFullError, describe
from rambla_py.handler import Handler
from rambla_py.outcome import Status
from rambla_py.policy import Policy, worker_of
from rambla_py.receipt import Home, Receipt
from rambla_py.telemetry.records import log_extra
from rambla_py.wire import body_of

if TYPE_CHECKING:
    from rambla_py.actors.session import Session
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.telemetry.events import Events

__all__ = ["Crew", "Stuck", "Target"]

log = logging.getLogger("rambla_py.delivery")

_AFTER_HOOKS = ("on_success", "on_outcome")


class _Waker(Protocol):
    def wake(self) -> None: ...


class Crew(Protocol):
    """The live half of a target, as its front sees it: workers that come and go."""

    def sessions(self) -> list[Session]: ...

    def check(self, now: float) -> None: ...

    def nudge(self, worker: int | None = None) -> None: ...

    def states(self) -> list[str]: ...

    def in_limbo(self) -> int: ...

    def abandon_judgements(self) -> list[tuple[Delivery, Any]]: ...


class Stuck(Protocol):
    """A worker whose thread hangs in user code."""

    def is_alive(self) -> bool: ...


class _Once:
    def __init__(self, call: Callable[[], None]) -> None:
        self.wake = call


class Target:
    """Accepts deliveries for one (service, channel) pair and sees each of them to exactly one end.

    It is no actor: it outlives its pool and its workers, so that a death among them loses nothing. Its
    methods may be called from any thread; ``submit`` is the hot path and takes no lock.

    ``idle`` holds those to wake when a message comes. Before the start it holds who starts the channel, and
    after the end who drops what comes too late, so that ``submit`` need not ask.
    """

    def __init__(
        self,
        config: ChannelConfig,
        *,
        home: Home,
        id_prefix: str,
        events: Events,
        start: Callable[[], None],
        watch: Callable[[Target, float], None],
        wakes: Wakes,
        nobody: Callable[[Target], Crew],
        redact: Callable[[str], str],
    ) -> None:
        self.config = config
        self.service, self.channel = config.service, config.channel
        self.id_prefix, self.home, self.events, self.redact = id_prefix, home, events, redact
        policy = self.policy = config.policy
        self.options, self.headers = config.options, config.headers or {}
        self.mailbox = Mailbox(
            workers=config.count, max_pending=config.max_pending, expires_s=policy.expires_s
        )
        self.ledger = Ledger()
        self.room = Room(self.mailbox)
        self.outlet = Outlet(config, self.mailbox, self.expire)
        self.nobody = nobody(self)
        self.crew: Crew = self.nobody
        self.idle: deque[_Waker] = deque([_Once(start)])
        self.handed_in: deque[tuple[Session | None, Delivery, Any]] = deque()
        self.succeeded: deque[Delivery] = deque()
        self.after: deque[Delivery | Receipt] = deque()
        self.fallback: Callable[[Delivery, Callable[[], None]], None] | None = None
        self.stop_at: float | None = None
        self.note: str | None = None
        self.calls_seen = False
        self.abandoned: list[Stuck] = []
        self.closed = False
        self.interval_s = max(0.02, min(1.0, config.attempt_timeout_s / 4, (policy.expires_s or 60.0) / 4))
        self._watch = watch
        self.wakes = wakes
        self._watched = False
        self._hooked = _has_after_hook(policy) or any(
            getattr(config.handler, name) is not getattr(Handler, name) for name in _AFTER_HOOKS
        )
        # The hot path, bound once.
        self._ready = self.mailbox.ready
        self._numbers = self.ledger.numbers
        self.plain = config.enabled and not policy.delay_s and policy.priority == "normal"

    def __repr__(self) -> str:
        return f"<Target {self.service}.{self.channel} {self.state}, {len(self.mailbox)} waiting>"

    # -- handing in -----------------------------------------------------------------------------------

    def submit(self, payload: Any) -> Receipt:
        """Accept a payload without options of its own; raises ``MailboxFullError``."""
        receipt = Receipt(self.home)
        if len(self._ready) >= self.mailbox.room:
            self.admit(self.delivery(payload, receipt))
            return receipt
        self._ready.append(
            Delivery(
                payload,
                self,
                receipt,
                next(self._numbers),
                time.monotonic(),
                self.options,
                self.policy,
                self.headers,
            )
        )
        if self.idle:
            self.wake()
        return receipt

    def submit_with(self, payload: Any, given: Mapping[str, Any]) -> Receipt:
        """Accept a payload with options of its own; raises ``OptionError`` and ``MailboxFullError``."""
        options, policy, headers, own_id, key = merge_message(self.config, given)
        self.check_room(1)
        receipt = Receipt(self.home)
        self.admit(Delivery(payload, self, receipt, -1, 0.0, options, policy, headers, key, own_id))
        return receipt

    def has_room(self, number: int) -> bool:
        """Say whether ``number`` messages fit now."""
        return len(self._ready) + number <= self.mailbox.room

    def submit_many(self, payloads: Sequence[Any]) -> Receipt:
        """Accept payloads without options of their own, for which there is room."""
        receipt = Receipt.expecting(self.home, len(payloads), 1, many=True)
        options, policy, headers, numbers = self.options, self.policy, self.headers, self._numbers
        now = time.monotonic()
        self._ready.extend(
            Delivery(payload, self, receipt, next(numbers), now, options, policy, headers, None, None, slot)
            for slot, payload in enumerate(payloads)
        )
        if self.idle:
            self.wake()
        return receipt

    def delivery(self, payload: Any, receipt: Receipt, **fields: Any) -> Delivery:
        """Return a delivery to this target that is not accepted yet; ``fields`` are those of ``Delivery``."""
        given = {"options": self.options, "policy": self.policy, "headers": self.headers, **fields}
        return Delivery(payload=payload, target=self, receipt=receipt, seq=-1, accepted_at=0.0, **given)

    def admit(self, delivery: Delivery, *, may_raise: bool = True, over_bound: bool = False) -> None:
        """Accept a delivery: wait for room where that is allowed, or let it end as ``dropped``.

        With ``may_raise`` a mailbox that stays full raises ``MailboxFullError``, and nothing is accepted.
        """
        if not self.config.enabled:
            self._accept_dropped(delivery, "disabled")
        elif over_bound or not self.mailbox.full or self._make_room(may_raise):
            self.enqueue(delivery)
        else:
            self._accept_dropped(delivery, "mailbox full")

    def enqueue(self, delivery: Delivery) -> None:
        """Accept a delivery, whatever waits."""
        self._number(delivery)
        policy = delivery.policy
        self.calls_seen = self.calls_seen or delivery.calls
        if self.events.listeners:
            self.events.published(delivery)
        if policy.delay_s:
            self.park(delivery, delivery.accepted_at + policy.delay_s)
        elif policy is self.policy and delivery.key is None and self.plain:
            self._ready.append(delivery)
        else:
            self.mailbox.put(delivery)
            self._alarm_for_next()
        self._wake_for(delivery)

    def check_room(self, number: int) -> None:
        """Raise ``MailboxFullError`` when ``number`` messages do not fit and nobody may wait here."""
        if self.has_room(number) or self.config.overflow != "block":
            return
        if must_not_wait():
            raise MailboxFullError(self.service, self.channel, self.config.max_pending)

    def wake(self) -> None:
        """Wake one of those that wait for messages."""
        try:
            waker = self.idle.popleft()
        except IndexError:
            return
        waker.wake()
        self.watch()

    def watch(self) -> None:
        """Have the timer look here, until it finds that nothing can happen by itself."""
        if not self._watched:
            self._watched = True
            self._watch(self, time.monotonic() + self.interval_s)

    def _wake_for(self, delivery: Delivery) -> None:
        """Wake somebody who may take this delivery: the one worker of its key, or any."""
        if delivery.key is not None:
            self.crew.nudge(worker_of(delivery.key, self.config.count))
        if self.idle:
            self.wake()

    def _number(self, delivery: Delivery) -> None:
        delivery.seq = next(self._numbers)
        delivery.accepted_at = time.monotonic()

    def _accept_dropped(self, delivery: Delivery, reason: str) -> None:
        self._number(delivery)
        self.finish(delivery, "dropped", error=DroppedError(reason))

    def _make_room(self, may_raise: bool) -> bool:
        """Do what ``overflow`` says; return whether the new delivery may enter."""
        overflow = self.config.overflow
        if overflow == "drop_oldest":
            oldest = self.mailbox.take_oldest()
            if oldest is not None:
                self.finish(oldest, "dropped", error=DroppedError("mailbox full"))
            return oldest is not None
        if overflow == "block" and not must_not_wait():
            if self.room.wait(self.config.publish_timeout_s):
                return True
            if may_raise:
                waited_s = self.config.publish_timeout_s
                raise MailboxFullError(self.service, self.channel, self.config.max_pending, waited_s=waited_s)
        elif overflow != "drop_newest" and may_raise:
            raise MailboxFullError(self.service, self.channel, self.config.max_pending)
        return False

    # -- taking out -----------------------------------------------------------------------------------

    def take(self, worker: int, limit: int, now: float, *, alone_ok: bool) -> list[Delivery]:
        """Take what a worker may attempt now; those that expired meanwhile end here."""
        batch = self.outlet.take(worker, limit, now, alone_ok=alone_ok)
        if self.room.waiters:
            self.room.offer()
        return batch

    def park(self, delivery: Delivery, due: float) -> None:
        """Hold a delivery until ``due``; what is due after the stop ends as ``dropped`` now."""
        if self.stop_at is not None and due > self.stop_at:
            self.finish(delivery, "dropped", error=_dropped("stopped", delivery.error))
            return
        self.mailbox.park(delivery, due)
        self._alarm(due)

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """Take back deliveries that are to be attempted again at once."""
        self.mailbox.put_back(deliveries)
        for delivery in deliveries:
            self._wake_for(delivery)

    # -- ending ---------------------------------------------------------------------------------------

    @property
    def answered(self) -> bool:
        """Whether answers, or callbacks that follow them, wait for a worker."""
        return bool(self.succeeded or self.handed_in or self.after)

    def end_successes(self, limit: int) -> None:
        """End up to ``limit`` of those that were settled as delivered, one by one, from other threads."""
        succeeded = self.succeeded
        batch: list[Delivery] = []
        with contextlib.suppress(IndexError):
            while len(batch) < limit:
                batch.append(succeeded.popleft())
        if batch:
            self.succeed(batch, time.monotonic())

    def hand_in(self, session: Session | None, delivery: Delivery, answer: Any) -> None:
        """Take an answer that a worker has to judge; whoever hands it in holds the claim."""
        self.handed_in.append((session, delivery, answer))
        self.crew.nudge()

    def succeed(self, deliveries: Sequence[Delivery], now: float) -> None:
        """End deliveries as ``ok``, with the ``result`` that each has; the hot path's way back."""
        self.ledger.count("ok", len(deliveries))
        plain = not (self._hooked or self.events.listeners)
        policy, after = self.policy, self.after
        for delivery in deliveries:
            delivery.status = "ok"
            delivery.ended_at = now
            delivery.error = None
            if delivery.holds_lane:
                self._release_lane(delivery)
            receipt = delivery.receipt
            if plain and delivery.policy is policy and receipt is not None and receipt.shape is None:
                # What _settle and Receipt.settle do, without a call: this loop is most of the way back.
                delivery.receipt = delivery.encoded = delivery.session = None
                receipt.slots = delivery
                receipt.complete = True
                if (receipt.waiters is not None or receipt.callbacks is not None) and receipt.tell():
                    after.append(receipt)
            else:
                self._settle(delivery)
        self.ledger.ended(deliveries)
        if self.events.listeners:
            for delivery in deliveries:
                self.events.attempted(delivery, None)

    def finish(
        self, delivery: Delivery, status: Status, *, result: Any = None, error: BaseException | None = None
    ) -> None:
        """End one delivery that is in nobody else's hands."""
        delivery.status, delivery.result, delivery.error = status, result, error
        delivery.ended_at = time.monotonic()
        self.ledger.count(status, reason=_reason(error) if error is not None else None)
        self._log_end(delivery, status, error)
        if delivery.holds_lane:
            self._release_lane(delivery)
        if status == "fatal" and self.fallback is not None:
            self.fallback(delivery, lambda: self._end(delivery))
        else:
            self._end(delivery)

    def _log_end(self, delivery: Delivery, status: Status, error: BaseException | None) -> None:
        """Log one error for each bad end; of drops, which come in floods, the first, second, fourth ..."""
        extra = log_extra(delivery, status)
        text = self.redact(describe(error))
        if status == "dropped":
            number = self.ledger.statuses["dropped"]
            if number & (number - 1) == 0:
                why = "" if error is None else _reason(error)
                log.warning("%s: %d dropped so far: %s", self.config.name, number, why, extra=extra)
        elif status != "ok":
            attempts = "1 attempt" if delivery.attempts == 1 else f"{delivery.attempts} attempts"
            log.error("%s: %s after %s: %s", self.config.name, status, attempts, text, extra=extra)

    def _release_lane(self, delivery: Delivery) -> None:
        if self.mailbox.release_lane(delivery):
            self._wake_for(delivery)

    def expire(self, delivery: Delivery) -> None:
        """End a delivery whose time is over, with its last error as the cause."""
        error = ExpiredError(delivery.policy.expires_s or 0.0, delivery.attempts)
        error.__cause__ = delivery.error
        self.finish(delivery, "expired", error=error)

    def _end(self, delivery: Delivery) -> None:
        self._settle(delivery)
        self.ledger.ended((delivery,))
        if self.after:
            self.crew.nudge()

    def _settle(self, delivery: Delivery) -> None:
        receipt = delivery.receipt
        delivery.receipt = None
        if delivery.encoded is not None:
            delivery.encoded = None
        if delivery.session is not None:
            delivery.session = None
        if receipt is not None and receipt.settle(delivery):
            self.after.append(receipt)
        if self._hooked or (delivery.policy is not self.policy and _has_after_hook(delivery.policy)):
            self.after.append(delivery)
        if self.events.listeners:
            self.events.ended(delivery)

    # -- time, called by the timer --------------------------------------------------------------------

    def tick(self, now: float) -> float | None:
        """Do what time asks for; return when to look again, or None while nothing can happen by itself."""
        for delivery in self.mailbox.unpark(now):
            self._wake_for(delivery)
        for delivery in self.mailbox.take_expired(now):
            self.expire(delivery)
        if self.room.waiters:
            self.room.offer()
        self.crew.check(now)
        if not self.mailbox.empty:
            self.crew.nudge()  # nobody should sleep while messages wait; should one, then not for long
        if self.answered and not self.crew.states():
            self.nobody.nudge()
        if self._quiet():
            self._watched = False
            # A publisher that saw `_watched` still set has appended before we look again.
            if self._quiet():
                return None
            self._watched = True
        due, regular = self.mailbox.next_due(), now + self.interval_s
        return regular if due is None else min(due, regular)

    def _quiet(self) -> bool:
        return not self.pending() and len(self.idle) >= max(1, len(self.crew.states()))

    def _alarm(self, due: float) -> None:
        self.watch()
        self._watch(self, due)

    def _alarm_for_next(self) -> None:
        due = self.mailbox.next_due()
        if due is not None:
            self._alarm(due)

    # -- stopping -------------------------------------------------------------------------------------

    def stop_accepting(self, stop_at: float) -> None:
        """From now on, drop what is due after ``stop_at``."""
        self.stop_at = stop_at
        for delivery in self.mailbox.take_parked_after(stop_at):
            self.finish(delivery, "dropped", error=_dropped("stopped", delivery.error))
        self.crew.nudge()

    def close(self) -> None:
        """End what is left: as ``dropped``, or in flight as ``unknown``; drop what still comes, too.

        What has an answer already is left to the judges.
        """
        self.closed = True
        self.idle.clear()
        self._drop_waiting()
        for session in self.crew.sessions():
            for delivery, _ in session.give_up(0.0, DroppedError("stopped")):
                self.finish(delivery, "unknown", error=DroppedError("stopped while in flight"))
        for delivery, _ in self.crew.abandon_judgements():
            self.finish(delivery, "dropped", error=_dropped("stopped", delivery.error))

    def _drop_waiting(self) -> None:
        # First in line for the next wake, and so called again by whoever comes too late.
        self.idle.appendleft(_Once(self._drop_waiting))
        for delivery in self.mailbox.take_all():
            self.finish(delivery, "dropped", error=_dropped("stopped", delivery.error))

    # -- looking --------------------------------------------------------------------------------------

    def in_flight(self) -> int:
        """Return how many deliveries are with workers or wait for a worker's judgement."""
        with_workers = sum(session.in_flight for session in self.crew.sessions())
        answered = len(self.succeeded) + len(self.handed_in)
        return with_workers + self.crew.in_limbo() + answered

    def pending(self) -> int:
        """Return how many deliveries have no outcome yet, counted where they are."""
        return len(self.mailbox) + self.in_flight()

    def nudge(self) -> None:
        """Make a worker look around."""
        self.crew.nudge()

    @property
    def state(self) -> str:
        """What the target does: ``idle`` (not started), ``up``, ``connecting``, ``blocked`` or ``down``."""
        if self.note is not None:
            return self.note
        states = self.crew.states()
        for state in ("up", "blocked", "connecting", "down"):
            if state in states:
                return state
        return "idle"

    def encode(self, delivery: Delivery) -> bytes:
        """Return a delivery's payload as bytes for the wire; raises ``SerializationError``."""
        return body_of(delivery)

    def hooks_of(self, delivery: Delivery, handler: Handler, name: str) -> Iterator[Callable[..., Any]]:
        """Yield the callback of that name, where there is one: the option's, or else the handler's."""
        chosen = getattr(delivery.policy.callbacks, name)
        if chosen is not None:
            yield chosen
        elif getattr(type(handler), name) is not getattr(Handler, name):
            yield getattr(handler, name)


def _has_after_hook(policy: Policy) -> bool:
    return any(getattr(policy.callbacks, name) is not None for name in _AFTER_HOOKS)


def _reason(error: BaseException) -> str:
    return error.reason if isinstance(error, DroppedError) else type(error).__name__


def _dropped(reason: str, cause: BaseException | None) -> DroppedError:
    error = DroppedError(reason)
    error.__cause__ = cause
    return error
