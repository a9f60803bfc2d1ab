"""This module is the front of one (service, channel) pair: where publishers hand in, workers take out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rambla_py.actors.alarm import Alarm
from rambla_py.actors.answers import Answers
from rambla_py.actors.endings import Endings
from rambla_py.actors.ledger import Ledger
from rambla_py.actors.mailbox import Mailbox
from rambla_py.actors.outlet import Outlet
from rambla_py.actors.room import Room
from rambla_py.actors.roster import Crew, Roster
from rambla_py.actors.wakes import Wakes
from rambla_py.config.options import merge_message
from rambla_py.delivery import Delivery
from rambla_py.receipt import Home, Receipt
from rambla_py.wire import body_of

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.telemetry.events import Events

__all__ = ["Target"]


class Target:
    """Accepts deliveries for one (service, channel) pair and keeps them until their end.

    It is no actor: it outlives its pool and its workers, so that a death among them loses nothing. Its
    methods may be called from any thread; ``submit`` is the hot path and takes no lock.

    What it has: the ``mailbox``, the ``room`` in it, and the ``outlet`` that workers take from; the
    ``roster`` of who works for it; the ``answers`` that wait for them; the ``endings``, and the ``ledger``
    that counts them; the ``alarm`` for what time brings.
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
        self.stop_at: float | None = None
        self.note: str | None = None
        self.calls_seen = False
        self.closed = False
        self.plain = config.enabled and not policy.delay_s and policy.priority == "normal"
        self.mailbox = Mailbox(
            workers=config.count, max_pending=config.max_pending, expires_s=policy.expires_s
        )
        self.ledger = Ledger()
        self.answers = Answers()
        self.alarm = Alarm(config, lambda at: watch(self, at))
        self.roster = Roster(
            workers=config.count, start=start, nobody=nobody(self), wakes=wakes, alarm=self.alarm
        )
        self.endings = Endings(
            config,
            mailbox=self.mailbox,
            ledger=self.ledger,
            answers=self.answers,
            roster=self.roster,
            events=events,
            redact=redact,
        )
        self.room = Room(config, self.mailbox, lambda oldest: self.endings.drop(oldest, "mailbox full"))
        self.outlet = Outlet(config, self.mailbox, self.endings.expire)
        # The hot path, bound once.
        self._ready = self.mailbox.ready
        self._numbers = self.ledger.numbers
        self._idle, self._wake = self.roster.idle, self.roster.wake

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
        if self._idle:
            self._wake()
        return receipt

    def submit_with(self, payload: Any, given: Mapping[str, Any]) -> Receipt:
        """Accept a payload with options of its own; raises ``OptionError`` and ``MailboxFullError``."""
        options, policy, headers, own_id, key = merge_message(self.config, given)
        self.room.check(1)
        receipt = Receipt(self.home)
        self.admit(Delivery(payload, self, receipt, -1, 0.0, options, policy, headers, key, own_id))
        return receipt

    def submit_many(self, payloads: Sequence[Any]) -> Receipt:
        """Accept payloads without options of their own, for which there is room."""
        receipt = Receipt.expecting(self.home, len(payloads), 1, many=True)
        options, policy, headers, numbers = self.options, self.policy, self.headers, self._numbers
        now = time.monotonic()
        self._ready.extend(
            Delivery(payload, self, receipt, next(numbers), now, options, policy, headers, None, None, slot)
            for slot, payload in enumerate(payloads)
        )
        if self._idle:
            self._wake()
        return receipt

    def delivery(self, payload: Any, receipt: Receipt, **fields: Any) -> Delivery:
        """Return a delivery to this target that is not accepted yet; ``fields`` are those of ``Delivery``."""
        given = {"options": self.options, "policy": self.policy, "headers": self.headers, **fields}
        return Delivery(payload=payload, target=self, receipt=receipt, seq=-1, accepted_at=0.0, **given)

    def admit(
        self,
        delivery: Delivery,
        *,
        may_raise: bool = True,
        may_wait: bool = True,
        over_bound: bool = False,
    ) -> bool:
        """Accept a delivery: wait for room where that is allowed, or let it end as ``dropped``.

        Returns whether there was room. With ``may_raise`` a mailbox that stays full raises
        ``MailboxFullError``, and nothing is accepted.
        """
        if not self.config.enabled:
            self._number(delivery)
            self.endings.drop(delivery, "disabled")
        elif over_bound or not self.mailbox.full or self.room.make(may_raise=may_raise, may_wait=may_wait):
            self._enqueue(delivery)
        else:
            self._number(delivery)
            self.endings.drop(delivery, "mailbox full")
            return False
        return True

    def _enqueue(self, delivery: Delivery) -> None:
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
            self.alarm.set(self.mailbox.next_due())
        self.roster.wake_for(delivery)

    def _number(self, delivery: Delivery) -> None:
        delivery.seq = next(self._numbers)
        delivery.accepted_at = time.monotonic()

    # -- taking out, and back in ----------------------------------------------------------------------

    def take(self, worker: int, limit: int, now: float, *, alone_ok: bool) -> list[Delivery]:
        """Take what a worker may attempt now; those that expired meanwhile end here."""
        if self.closed:
            return []
        batch = self.outlet.take(worker, limit, now, alone_ok=alone_ok)
        if self.room.waiters:
            self.room.offer()
        return batch

    def park(self, delivery: Delivery, due: float) -> None:
        """Hold a delivery until ``due``; what is due after the stop ends as ``dropped`` now."""
        if self.closed or (self.stop_at is not None and due > self.stop_at):
            self.endings.drop(delivery, "stopped")
            return
        self.mailbox.park(delivery, due)
        self.alarm.set(due)

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """Take back deliveries that are to be attempted again at once."""
        self.mailbox.put_back(deliveries)
        for delivery in deliveries:
            self.roster.wake_for(delivery)

    def hand_in(self, delivery: Delivery, answer: Any) -> None:
        """Take an answer that is left to whoever judges next; whoever hands it in holds the claim."""
        self.answers.handed_in.append((None, delivery, answer))
        self.roster.nudge()

    # -- looking --------------------------------------------------------------------------------------

    def in_flight(self) -> int:
        """Return how many deliveries are with workers or wait for a worker's judgement."""
        crew = self.roster.crew
        with_workers = sum(session.in_flight for session in crew.sessions())
        return with_workers + crew.in_limbo() + self.answers.in_flight

    def pending(self) -> int:
        """Return how many deliveries have no outcome yet, counted where they are."""
        return len(self.mailbox) + self.in_flight()

    @property
    def state(self) -> str:
        """What the target does: ``idle`` (not started), ``up``, ``connecting``, ``blocked`` or ``down``."""
        if self.note is not None:
            return self.note
        states = self.roster.crew.states()
        for state in ("up", "blocked", "connecting", "down"):
            if state in states:
                return state
        return "idle"

    def encode(self, delivery: Delivery) -> bytes:
        """Return a delivery's payload as bytes for the wire; raises ``SerializationError``."""
        return body_of(delivery)
