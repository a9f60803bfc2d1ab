"""Calls of publish: checked and captured as a whole first, then accepted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from rambla_py._internal.durations import seconds_left
from rambla_py._internal.message_ids import SharedId
from rambla_py._internal.waiting import wait, wait_async
from rambla_py.config.options import accepts
from rambla_py.delivery import LiveDelivery
from rambla_py.errors import OptionError
from rambla_py.message import Message
from rambla_py.receipt import DurableReceipt, Home, Receipt
from rambla_py.runtime.room import CallAdmission, RoomSource
from rambla_py.runtime.routing import check_names
from rambla_py.runtime.target.drafts import SharedPayload, lone_delivery
from rambla_py.runtime.target.durability import Durability
from rambla_py.runtime.target.gathering import home_of
from rambla_py.runtime.target.target import Target
from rambla_py.runtime.worker_threads import must_not_wait
from rambla_py.telemetry.tracing import CallTrace, ends_with

__all__ = ["Call", "accept", "accept_async", "plan"]

_YIELD_EVERY = 1_000


class Call(msgspec.Struct, frozen=True):
    """One call of publish, checked and captured, with nothing accepted yet.

    ``deliveries`` are in the order of the messages; those of one message are in the order of the targets.
    """

    home: Home
    targets: tuple[Target, ...]
    deliveries: list[LiveDelivery]
    receipt: Receipt
    many: bool
    trace: CallTrace | None = None

    @property
    def durability(self) -> Durability | None:
        """The outbox that commits before any message of this call is accepted; None without one."""
        for target in self.targets:
            if target.durability is not None:
                return target.durability
        return None

    def divided(self) -> tuple[list[LiveDelivery], list[LiveDelivery]]:
        """Return the deliveries that are stored in the outbox, and the others."""
        others = [delivery for delivery in self.deliveries if delivery.stored is None]
        if not others:
            return self.deliveries, others
        return [delivery for delivery in self.deliveries if delivery.stored is not None], others


def plan(
    home: Home,
    targets: tuple[Target, ...],
    messages: Sequence[Any],
    options: Mapping[str, Any],
    *,
    many: bool,
    trace: CallTrace | None = None,
) -> Call:
    """Return the checked deliveries of a call; raises ``OptionError`` and ``SerializationError``.

    The trace of a call that raises is ended.
    """
    durable = any(target.durability is not None for target in targets)
    kind = DurableReceipt if durable else Receipt
    receipt = kind._expecting(home_of(home, targets), len(messages), len(targets), many=many)
    deliveries: list[LiveDelivery] = []
    try:
        if len(targets) == 1:
            _draft_for_one(targets[0], messages, options, receipt, deliveries, trace)
        else:
            for message in messages:
                _draft(targets, message, options, receipt, deliveries, trace)
        if trace is not None:
            trace.drafted(deliveries)
    except BaseException as error:
        if trace is not None:
            trace.ended(error)
        raise
    return Call(home, targets, deliveries, receipt, many, trace)


def accept(call: Call, *, may_wait: bool = True) -> Receipt:
    """Accept the deliveries of a call; raises ``MailboxFullError`` if there is no room for any of them."""
    may_wait = may_wait and not must_not_wait()
    if call.trace is None:  # the ordinary case, without the cost of a block
        return _accept(call, time.monotonic(), may_wait=may_wait)
    with ends_with(call.trace):
        return _accept(call, time.monotonic(), may_wait=may_wait)


def _accept(call: Call, now: float, *, may_wait: bool) -> Receipt:
    durability = call.durability
    if durability is not None:
        return _accept_durable(call, durability, now, may_wait=may_wait)
    admission = CallAdmission(call.targets, call.deliveries, now, may_wait=may_wait)
    admission.check_places(now)
    while waiting := admission.admit(time.monotonic()):
        wait(RoomSource(waiting), seconds_left(admission.deadline(waiting)))
    admission.finish()
    return call.receipt


async def accept_async(call: Call, check_running: Callable[[], None]) -> Receipt:
    """Accept the deliveries of a call; waits for room without blocking the event loop.

    Yields to other tasks every 1,000 messages. ``check_running`` raises if the app has stopped accepting.
    """
    with ends_with(call.trace):
        check_running()
        return await _accept_async(call, check_running)


async def _accept_async(call: Call, check_running: Callable[[], None]) -> Receipt:
    if call.durability is not None:
        return await _accept_durable_async(call, call.durability, check_running)
    admission = CallAdmission(call.targets, call.deliveries, time.monotonic(), may_wait=True)
    unfinished = True
    while unfinished:
        if not admission.accepted:
            check_running()
        waiting = admission.admit(time.monotonic(), _YIELD_EVERY)
        unfinished = bool(waiting)
        if admission.reached_most:
            await asyncio.sleep(0)
        elif waiting:
            await wait_async(RoomSource(waiting), seconds_left(admission.deadline(waiting)))
    admission.finish()
    return call.receipt


def _accept_durable(call: Call, durability: Durability, now: float, *, may_wait: bool) -> Receipt:
    """Reserve room in the mailboxes of the other targets, commit, then accept: nothing stored is dropped."""
    stored, others = call.divided()
    if not others:
        durability.accept(stored, may_wait=may_wait)
        call.receipt._store(whole=True)
        return call.receipt
    admission = _others(call, others, now, may_wait=may_wait)
    admission.check_places(now)
    while waiting := admission.reserve():
        if not wait(RoomSource(waiting), seconds_left(admission.deadline(waiting))):
            admission.give_up()
    try:
        durability.accept(stored, may_wait=may_wait)
    finally:
        admission.end_reservation()
    call.receipt._store(whole=not others)
    admission.admit_all()
    return call.receipt


async def _accept_durable_async(
    call: Call, durability: Durability, check_running: Callable[[], None]
) -> Receipt:
    stored, others = call.divided()
    admission = _others(call, others, time.monotonic(), may_wait=True)
    while waiting := admission.reserve():
        if not await wait_async(RoomSource(waiting), seconds_left(admission.deadline(waiting))):
            admission.give_up()
    try:
        check_running()
        durability.accept(stored, may_wait=False)
    finally:
        admission.end_reservation()
    call.receipt._store(whole=not others)
    admission.admit_all()
    return call.receipt


def _others(call: Call, others: list[LiveDelivery], now: float, *, may_wait: bool) -> CallAdmission:
    """Return the admission of the deliveries that are not stored."""
    targets = [target for target in call.targets if target.durability is None]
    return CallAdmission(targets, others, now, may_wait=may_wait)


def _draft_for_one(
    target: Target,
    messages: Sequence[Any],
    options: Mapping[str, Any],
    receipt: Receipt,
    deliveries: list[LiveDelivery],
    trace: CallTrace | None,
) -> None:
    """Add the deliveries of messages to one target: the same as ``_draft``, which costs twice as much."""
    givens: list[Mapping[str, Any]] = []
    checked = last = None
    hook = target.admission.publish_hook
    each, plain = trace is not None or hook is not None, hook is None and not target.config.envelope
    for slot, message in enumerate(messages):
        payload, given = message, options
        if not plain or isinstance(message, Message):
            payload, given = _read(target, message, options)
        if checked is None or given is not last or each:  # most have those of the call only
            last = given
            if given:
                check_names([target.config], given)
            if trace is not None:
                given = trace.options(target.config, given)
            checked = target.admission.drafts.check(given)
        deliveries.append(lone_delivery(payload, checked, receipt, slot))
        givens.append(given)
    if target.durability is not None:
        target.durability.prepare(deliveries, givens)


def _draft(
    targets: tuple[Target, ...],
    message: Any,
    options: Mapping[str, Any],
    receipt: Receipt,
    deliveries: list[LiveDelivery],
    trace: CallTrace | None,
) -> None:
    read = [_read(target, message, options) for target in targets]
    names = {name: None for _, given in read for name in given}
    if names:
        check_names([target.config for target in targets], names)
    shared_id = SharedId()
    payloads: list[SharedPayload] = []
    for target, (payload, given) in zip(targets, read, strict=True):
        mine = _accepted_by(target, given)
        if trace is not None:
            mine = trace.options(target.config, mine)
        checked = target.admission.drafts.check(mine)
        shared = _shared(payloads, payload)
        delivery = shared.delivery(checked, receipt, shared_id, len(deliveries))
        if target.durability is not None:
            target.durability.prepare((delivery,), (mine,))
        deliveries.append(delivery)


def _shared(payloads: list[SharedPayload], payload: Any) -> SharedPayload:
    """Return the payload's shared state; targets differ if only some of them accept an envelope."""
    for shared in payloads:
        if shared.given is payload:
            return shared
    payloads.append(SharedPayload(payload))
    return payloads[-1]


def _accepted_by(target: Target, given: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in given.items() if accepts(target.config, name)} if given else given


def _read(target: Target, message: Any, options: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """Return a message's payload and its options; options of the call override those of the message."""
    given: Mapping[str, Any] = options
    if isinstance(message, Message):
        message, given = message.payload, {**message.options, **options} if options else message.options
    elif target.config.envelope and type(message) is dict and "message" in message:
        opened = _opened(target, message)
        if opened is not None:
            message, given = message["message"], {**opened, **options}
    hook = target.admission.publish_hook
    return message, given if hook is None else hook(given)


def _opened(target: Target, envelope: dict[str, Any]) -> dict[str, Any] | None:
    """Return the options of an envelope, or None if the dict is not an envelope on this target."""
    config = target.config
    given = {name: value for name, value in envelope.items() if name != "message"}
    if any(type(name) is not str or name not in config.envelope for name in given):
        return None
    if _has_control_header(given.get("headers"), config.handler.control_headers_for(config.settings)):
        return None
    try:
        target.admission.drafts.check(given)
    except OptionError:
        return None
    return given


def _has_control_header(headers: Any, controls: Iterable[str]) -> bool:
    if not isinstance(headers, Mapping):
        return False
    lower = [str(name).lower() for name in headers]
    return any(
        name.startswith(control[:-1].lower()) if control.endswith("*") else name == control.lower()
        for name in lower
        for control in controls
    )
