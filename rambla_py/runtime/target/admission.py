"""Admission to one target: messages are captured, become deliveries, and enter its mailbox."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, Protocol

from rambla_py.config.options import checked_id, checked_key, merge_headers
from rambla_py.delivery import LiveDelivery
from rambla_py.message import Message
from rambla_py.receipt import Receipt
from rambla_py.runtime.target.drafts import Draft, Drafts, PayloadNeeds
from rambla_py.runtime.target.durable_acceptor import durable_acceptor
from rambla_py.runtime.target.plain_acceptor import plain_acceptor
from rambla_py.serialization.capture import ATOMS, captured

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.policy import Policy
    from rambla_py.receipt import ReceiptHome
    from rambla_py.runtime.target.backpressure import Answer, Backpressure
    from rambla_py.runtime.target.completion import Completion
    from rambla_py.runtime.target.counters import Counters
    from rambla_py.runtime.target.durability import Durability
    from rambla_py.runtime.target.gathering import Gathering
    from rambla_py.runtime.target.mailbox import Mailbox
    from rambla_py.runtime.target.wakeup import TargetTimer, Wakeup
    from rambla_py.telemetry.observers import Observers

__all__ = ["Admission", "PublishHook"]

PublishHook = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Called with the options of one message in the publishing thread; returns the options to use."""

_PAYLOADS = ATOMS | {dict, list, set, bytearray}


class _Target(Protocol):
    service: str
    channel: str
    config: ChannelConfig
    policy: Policy
    plain: bool
    receipt_home: ReceiptHome
    observers: Observers
    mailbox: Mailbox
    counters: Counters
    wakeup: Wakeup
    gathering: Gathering
    timer: TargetTimer
    completion: Completion
    backpressure: Backpressure

    @property
    def durability(self) -> Durability | None: ...

    @property
    def error_text(self) -> Callable[[BaseException | None], str]: ...

    def encode(self, delivery: LiveDelivery) -> bytes: ...

    def expect_ids(self) -> None: ...

    def expect_callables(self) -> None: ...

    def park(self, delivery: LiveDelivery, due: float) -> None: ...


class Admission:
    """Accepts messages for one target.

    The fast path is ``accept``, ``accept_with`` and ``accept_many``. They return None, with nothing done,
    for a message that must take the slow path (an envelope, a callable, a full mailbox, an outbox): it is
    planned first, and then accepted with ``admit``.
    """

    def __init__(self, target: _Target, fallback_needs: Sequence[PayloadNeeds] = ()) -> None:
        self._target, self._fallback_needs = target, fallback_needs
        self.publish_hook: PublishHook | None = None
        self._ready, self._numbers = target.mailbox.ready, target.counters.numbers
        self._idle, self._wake_now = target.wakeup.idle, target.wakeup.wake
        self.wake = target.gathering.wake if target.config.batch_timeout_s else target.wakeup.wake
        """Wakes a worker for a new message without a key."""
        self._bind()

    def _bind(self) -> None:
        self.drafts = Drafts(self._target, self._acceptor, self._fallback_needs)
        self._accept = self.drafts.base.accept
        self._accept_now = self._shortest(self.drafts.base, self.drafts.base.headers)
        durable = None if self.publish_hook else durable_acceptor(self._target, self.drafts.base)
        self.accept = durable or self._accept_now

    def capture_for(self, fallback_needs: Sequence[PayloadNeeds]) -> None:
        """Capture payloads also for the targets of the fallback chain."""
        self._fallback_needs = fallback_needs
        self._bind()

    def use(self, publish_hook: PublishHook) -> None:
        """Attach a publish hook; every message takes the slow path from now on."""
        self.publish_hook = publish_hook
        self._bind()

    def leave_fast_path(self) -> None:
        """Store every message from now on: the target has become durable."""
        self._bind()

    @property
    def has_fast_path(self) -> bool:
        """Whether messages may take the fast path: not those that are checked by a schema, for one."""
        config = self._target.config
        attached = self._target.durability is not None or self.publish_hook is not None
        return config.enabled and config.validate is None and not attached

    # -- fast path ------------------------------------------------------------------------------------

    def accept_with(self, message: Any, options: Mapping[str, Any]) -> Receipt | None:
        """Accept one message with options; raises ``OptionError`` and ``SerializationError``."""
        if type(message) is Message:
            if self._target.config.envelope:
                return None
            options = {**message.options, **options} if options else message.options
            message = message.payload
        if not options:
            return self._accept_now(message)
        if len(options) == 1:
            ((name, value),) = options.items()
            if name == "key":
                return self._accept(message, checked_key(self._target.config, value))
            if name == "headers":
                return self._accept(message, None, None, merge_headers(self._target.config, value))
            if name == "id":
                return self._accept(message, None, checked_id(self._target.config, value))
            draft = self.drafts.find(name, value)
            if draft is not None:
                return draft.accept(message)
        draft, key, own_id, headers = self.drafts.check(options)
        return draft.accept(message, key, own_id, headers)

    def bound(self, options: Mapping[str, Any]) -> Callable[[Any], Receipt | None]:
        """Return ``accept`` with options bound to it."""
        draft, key, own_id, headers = self.drafts.check(options)
        if key is None and own_id is None:
            return self._shortest(draft, headers)
        return self._acceptor(draft, key, own_id, headers)

    def _shortest(self, draft: Draft, headers: dict[str, Any]) -> Callable[[Any], Receipt | None]:
        target = self._target
        own = headers is draft.headers
        general = draft.accept if own else self._acceptor(draft, bound_headers=headers)
        if general is _slow_path or not (target.plain and draft.ordinary):
            return general
        return plain_acceptor(
            target,
            draft,
            headers,
            numbers=self._numbers,
            idle=self._idle,
            wake=self.wake,
            general=general,
        )

    def accept_many(self, payloads: Sequence[Any], options: Mapping[str, Any]) -> Receipt | None:
        """Accept payloads with common options; raises ``OptionError`` and ``SerializationError``."""
        target = self._target
        if not (self.has_fast_path and target.plain and target.backpressure.has(len(payloads))):
            return None
        draft, key, own_id, headers = self.drafts.check(options)
        if draft.whole or not draft.ordinary or key is not None or own_id is not None:
            return None
        kinds = set(map(type, payloads))
        if not kinds <= _PAYLOADS or (dict in kinds and target.config.envelope):
            return None
        bodies: Iterable[bytes | None] = repeat(None)
        if draft.encode is not None:
            bodies = payloads if kinds == {draft.raw} else [draft.encode(payload) for payload in payloads]
        if draft.copies and not kinds <= ATOMS:
            payloads = [captured(payload) for payload in payloads]
        receipt = Receipt._expecting(target.receipt_home, len(payloads), 1, many=True)
        merged, policy, now = draft.options, draft.policy, time.monotonic()
        # The numbers come last, so that none is drawn once the payloads are exhausted.
        rows = zip(payloads, bodies, range(len(payloads)), self._numbers, strict=False)
        self._ready.extend(
            [
                LiveDelivery(
                    payload,
                    merged,
                    policy,
                    headers,
                    None,
                    now,
                    0,
                    target,
                    receipt,
                    seq,
                    None,
                    slot,
                    False,
                    encoded,
                )
                for payload, encoded, slot, seq in rows
            ]
        )
        if self._idle:
            self.wake()
        return receipt

    def _acceptor(
        self,
        draft: Draft,
        bound_key: str | None = None,
        bound_id: str | None = None,
        bound_headers: dict[str, Any] | None = None,
    ) -> Callable[..., Receipt | None]:
        """Return a function that accepts payloads with the options of one draft, and these unless given."""
        target = self._target
        if draft.whole or not self.has_fast_path:
            return _slow_path
        # Everything that the function uses is bound here, because each attribute look-up costs a publish.
        home, mailbox, ready, numbers = target.receipt_home, target.mailbox, self._ready, self._numbers
        retrying, arrived, timer = mailbox.retrying, mailbox.arrived, target.timer
        expires_s = draft.policy.expires_s if draft.policy.expires_s != target.policy.expires_s else None
        idle, wake, wake_now = self._idle, self.wake, self._wake_now
        monotonic, atoms, enqueue, capture = time.monotonic, ATOMS, self.enqueue, captured
        own_headers = draft.headers if bound_headers is None else bound_headers
        encode, copies, options, policy = draft.encode, draft.copies, draft.options, draft.policy
        raw, ordinary = draft.raw, target.plain and draft.ordinary
        reads_envelopes = bool(target.config.envelope)
        delayed = bool(policy.delay_s)
        drops = target.config.overflow == "drop_newest" and not reads_envelopes
        drop_newest = self._dropper(draft) if drops else _slow_path

        def accept(
            payload: Any,
            key: str | None = bound_key,
            given_id: str | None = bound_id,
            headers: dict[str, Any] = own_headers,
        ) -> Receipt | None:
            if len(ready) >= mailbox.ready_limit or (key is not None and key in retrying):
                return drop_newest(payload, key, given_id, headers)
            kind = type(payload)
            if kind is dict:
                if reads_envelopes and "message" in payload:
                    return None
            elif kind not in atoms and (kind is Message or callable(payload)):
                return None
            encoded = None
            if encode is not None:
                encoded = payload if kind is raw else encode(payload)
            if copies and kind not in atoms:
                payload = capture(payload)
            receipt = Receipt(home)
            # The same as draft.build, inlined: the call would make a plain publish 8 % more expensive (CPU,
            # median of nine interleaved rounds).
            delivery = LiveDelivery(
                payload,
                options,
                policy,
                headers,
                key,
                monotonic(),
                0,
                target,
                receipt,
                next(numbers),
                given_id,
                0,
                False,
                encoded,
            )
            if ordinary and key is None:
                ready.append(delivery)
                if idle:
                    wake()
            elif delayed:
                enqueue(delivery)
            else:
                # The same as Mailbox.put, inlined.
                arrived.append(delivery)
                mailbox.ready_limit = mailbox.places - len(arrived)
                if expires_s is not None and delivery.accepted_at + expires_s < timer.due:
                    timer.run_by(delivery.accepted_at + expires_s)
                if idle:
                    (wake if key is None else wake_now)()
            return receipt

        return accept

    def _dropper(self, draft: Draft) -> Callable[..., Receipt | None]:
        """Return a function that drops a dictionary for which there is no room, at half the cost of a plan.

        It returns None, with nothing done, if there is room now, and for what else takes the slow path.
        """
        home, mailbox = self._target.receipt_home, self._target.mailbox

        def drop_newest(
            payload: Any, key: str | None, given_id: str | None, headers: dict[str, Any]
        ) -> Receipt | None:
            if type(payload) is not dict or key is not None or not mailbox.full:
                return None
            encoded = None if draft.encode is None else draft.encode(payload)
            receipt = Receipt(home)
            payload = captured(payload) if draft.copies else payload
            self.drop(draft.build(payload, receipt, given_id=given_id, headers=headers, encoded=encoded))
            return receipt

        return drop_newest

    # -- slow path: planned deliveries ----------------------------------------------------------------

    def try_admit(self, delivery: LiveDelivery) -> Answer:
        """Accept a delivery if there is room, or if ``overflow`` drops it; return what there was."""
        answer: Answer = "room"
        if self._target.config.enabled:
            answer = self._target.backpressure.make(delivery)
        if answer == "room":
            self.admit(delivery)
        elif answer == "dropped":
            self.drop(delivery)
        return answer

    def admit(self, delivery: LiveDelivery) -> None:
        """Accept a delivery regardless of room; a disabled channel drops it."""
        self._number(delivery)
        target = self._target
        # The same as in enqueue, which costs twice as much.
        if delivery.policy is target.policy and target.plain and delivery.key is None and not delivery.calls:
            self._ready.append(delivery)
            if self._idle:
                self.wake()
        elif target.config.enabled:
            self.enqueue(delivery)
        else:
            target.completion.drop(delivery, "disabled")

    def spill(self, delivery: LiveDelivery) -> None:
        """Accept a stored delivery that stays in the outbox for want of room; it comes back with ``feed``."""
        delivery.spill(time.monotonic())
        self._target.counters.spill(1)
        for published in self._target.observers.published:
            published(self._target.config, delivery)

    def leave(self, delivery: LiveDelivery) -> None:
        """Leave a stored delivery to another process, which accepts it."""
        for published in self._target.observers.published:
            published(self._target.config, delivery)

    def feed(self, delivery: LiveDelivery, due: float | None) -> None:
        """Add a delivery from the outbox, which counts as accepted, to the mailbox; not before ``due``."""
        self._target.counters.feed(1)
        if due is not None:
            self._target.park(delivery, due)
        elif self._is_plain(delivery) and not delivery.attempts and delivery.policy.expires_s is None:
            self._ready.append(delivery)  # behind those that were stored before it
        else:
            self._target.mailbox.put(delivery)
            self._target.timer.run_by(delivery.expires_at)
        if self._idle:  # it was accepted long ago: it waits for no batch to fill
            self._wake_now()

    def drop(self, delivery: LiveDelivery) -> None:
        """Accept a delivery and end it as ``dropped`` for want of room."""
        self._number(delivery)
        self._target.completion.drop(delivery, "mailbox full")

    def enqueue(self, delivery: LiveDelivery) -> None:
        """Add a numbered delivery to the mailbox regardless of room, and wake a worker."""
        target, policy = self._target, delivery.policy
        if delivery.calls:
            target.expect_callables()
        if policy.delay_s:
            target.park(delivery, delivery.accepted_at + policy.delay_s)
        elif self._is_plain(delivery):
            self._ready.append(delivery)
        else:
            target.mailbox.put(delivery)
            target.timer.run_by(delivery.expires_at)
        if self._idle:
            (self.wake if delivery.key is None else self._wake_now)()

    def _is_plain(self, delivery: LiveDelivery) -> bool:
        """Return whether any worker may take it, and nothing but its place decides when."""
        target = self._target
        return delivery.policy is target.policy and delivery.key is None and target.plain

    def _number(self, delivery: LiveDelivery) -> None:
        target = self._target
        delivery.accept(next(self._numbers), time.monotonic())
        for published in target.observers.published:
            published(target.config, delivery)


def _slow_path(*given: Any) -> Receipt | None:
    """Return None: these messages take the slow path."""
    return None
