"""The shortest way into the outbox for one target, for messages without options of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from rambla_py.receipt import DurableReceipt
from rambla_py.serialization.capture import ATOMS, captured

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.receipt import Receipt, ReceiptHome
    from rambla_py.runtime.target.drafts import Draft
    from rambla_py.runtime.target.durability import Durability

__all__ = ["durable_acceptor"]


class _Target(Protocol):
    config: ChannelConfig
    plain: bool
    receipt_home: ReceiptHome

    @property
    def durability(self) -> Durability | None: ...


def durable_acceptor(target: _Target, draft: Draft) -> Callable[[Any], Receipt | None] | None:
    """Return a function that stores a payload with an ordinary draft, and may wait for room in the outbox.

    It does what the slow path does for such a message, without its plan. It returns None, with nothing done,
    for what must be planned: a ``Message``, an envelope, a callable. None for a target whose messages all
    take the slow path, or are not stored.
    """
    durability = target.durability
    if durability is None or not (target.plain and draft.ordinary) or draft.validate or draft.whole:
        return None
    home, build, encode, copies = target.receipt_home, draft.build, draft.encode, draft.copies
    kinds = ATOMS if target.config.envelope else ATOMS | {dict}
    givens: tuple[dict[str, Any]] = ({},)

    def accept(payload: Any) -> Receipt | None:
        if type(payload) not in kinds:
            return None
        encoded = None if encode is None else encode(payload)
        if copies:
            payload = captured(payload)
        receipt = DurableReceipt(home)
        deliveries = (build(payload, receipt, encoded=encoded),)
        durability.prepare(deliveries, givens)
        durability.accept(deliveries, may_wait=True)
        receipt._store(whole=True)
        return receipt

    return accept
