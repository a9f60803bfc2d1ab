"""Fast path of messages that get a span each, to one target."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from rambla_py._internal.message_ids import new_id
from rambla_py.delivery import LiveDelivery
from rambla_py.receipt import Receipt
from rambla_py.runtime.target.drafts import SharedPayload
from rambla_py.serialization.capture import ATOMS, captured

if TYPE_CHECKING:
    from rambla_py.runtime.target.drafts import Draft
    from rambla_py.runtime.target.target import Target
    from rambla_py.telemetry.tracing import CallTrace, Tracing

__all__ = ["SpannedPath"]

_PLENTY: Final = 1_000
_OWN: Final = frozenset({"key", "id", "headers"})


class SpannedPath:
    """Accepts single messages of one target, each with a span of its own, where there is room.

    A place is reserved before the span begins, so that no span is made in vain: a message without a place
    takes the slow path, where its span shows how long it waits.
    """

    def __init__(self, target: Target, tracing: Tracing) -> None:
        self._target, self._tracing, self._begin = target, tracing, tracing.begin
        # Attaching an outbox or a hook to the target replaces its drafts: then nothing is accepted here.
        self._drafts = target.admission.drafts if target.admission.has_fast_path else None
        self._kinds = ATOMS if target.config.envelope else ATOMS | {dict, list}

    def under(self, context: object, options: Mapping[str, Any]) -> Callable[[Any], Receipt | None]:
        """Return ``accept`` with options bound to it, for the messages of one caller.

        Where there is plenty of room, no place is reserved: other publishers cannot take it all meanwhile.
        """
        target, drafts, accept_any = self._target, self._drafts, self.accept
        draft = self._ordinary(options)
        if draft is None:
            return lambda message: accept_any(message, options)
        caller = self._tracing.caller(context)
        begin, config, admission, mailbox = caller.begin, target.config, target.admission, target.mailbox
        ready, numbers, idle, home = (
            mailbox.ready,
            target.counters.numbers,
            target.wakeup.idle,
            target.receipt_home,
        )
        encode, raw, copies, wake = draft.encode, draft.raw, draft.copies, admission.wake
        merged, policy, kinds, monotonic = draft.options, draft.policy, self._kinds, time.monotonic

        def accept(message: Any) -> Receipt | None:
            kind = type(message)
            has_room = mailbox.ready_limit - len(ready) > _PLENTY
            if not has_room or kind not in kinds or admission.drafts is not drafts:
                return accept_any(message, options)
            message_id = new_id()
            headers, span, end = begin(config, message_id)
            try:
                encoded = None
                if encode is not None:
                    encoded = message if kind is raw else encode(message)
                if copies and kind not in ATOMS:
                    message = captured(message)
            except BaseException as error:
                caller.failed(span, error)
                end()
                raise
            receipt = Receipt(home)
            ready.append(
                LiveDelivery(
                    message,
                    merged,
                    policy,
                    headers,  # type: ignore[arg-type]  # nothing changes them
                    None,
                    monotonic(),
                    0,
                    target,
                    receipt,
                    next(numbers),
                    message_id,
                    0,
                    False,
                    encoded,
                )
            )
            if idle:
                wake()
            end()
            return receipt

        return accept

    def _ordinary(self, options: Mapping[str, Any]) -> Draft | None:
        """Return the draft of messages without a key or an id that any worker may take in order, or None."""
        if self._drafts is None or not _OWN.isdisjoint(options):
            return None
        draft = self._drafts.check(options).draft
        return draft if self._target.plain and draft.ordinary and not draft.whole else None

    def accept(self, message: Any, options: Mapping[str, Any]) -> Receipt | None:
        """Accept one message without headers; None, with nothing done, if it must take the slow path.

        Raises ``OptionError`` and ``SerializationError``.
        """
        target, trace = self._target, self._begin()
        if target.admission.drafts is not self._drafts or type(message) not in self._kinds:
            return None
        if trace is None or "key" in options or not target.mailbox.reserve(1):  # a key may wait for a retry
            return None
        receipt = Receipt(target.receipt_home)
        try:
            delivery = self._delivery(message, options, receipt, trace)
        except BaseException as error:
            target.mailbox.lend(-1)
            target.backpressure.offer()
            trace.ended(error)
            raise
        target.mailbox.lend(-1)  # right before it is used
        target.admission.admit(delivery)
        trace.ended(None)
        return receipt

    def _delivery(
        self, message: Any, options: Mapping[str, Any], receipt: Receipt, trace: CallTrace
    ) -> LiveDelivery:
        target, message_id = self._target, None
        if "id" not in options:
            message_id = new_id()
            options = {**options, "id": message_id}
        checked = target.admission.drafts.check(trace.options(target.config, options, message_id))
        delivery = SharedPayload(message).delivery(checked, receipt, None, 0)
        trace.drafted((delivery,))
        return delivery
