"""Fast path of messages that get a span each, to one target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rambla_py._internal.message_ids import new_id
from rambla_py.receipt import Receipt
from rambla_py.runtime.target.drafts import SharedPayload
from rambla_py.serialization.capture import ATOMS

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.runtime.target.target import Target
    from rambla_py.telemetry.tracing import CallTrace, Tracing

__all__ = ["SpannedPath"]


class SpannedPath:
    """Accepts single messages of one target, each with a span of its own, where there is room.

    A place is reserved before the span begins, so that no span is made in vain: a message without a place
    takes the slow path, where its span shows how long it waits.
    """

    def __init__(self, target: Target, tracing: Tracing) -> None:
        self._target, self._begin = target, tracing.begin
        # Attaching an outbox or a hook to the target replaces its drafts: then nothing is accepted here.
        self._drafts = target.admission.drafts if target.admission.has_fast_path else None
        self._kinds = ATOMS if target.config.envelope else ATOMS | {dict, list}

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
