"""The shortest way into the mailbox of one target, for messages without options of their own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from rambla_py.delivery import LiveDelivery
from rambla_py.receipt import Receipt
from rambla_py.serialization.capture import ATOMS, captured

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.receipt import ReceiptHome
    from rambla_py.runtime.target.drafts import Draft
    from rambla_py.runtime.target.mailbox import Mailbox

__all__ = ["plain_acceptor"]

Accept = Callable[..., "Receipt | None"]


class _Target(Protocol):
    service: str
    channel: str
    config: ChannelConfig
    receipt_home: ReceiptHome
    mailbox: Mailbox

    @property
    def error_text(self) -> Callable[[BaseException | None], str]: ...

    def encode(self, delivery: LiveDelivery) -> bytes: ...

    def expect_ids(self) -> None: ...


def plain_acceptor(
    target: _Target,
    draft: Draft,
    headers: dict[str, Any],
    *,
    numbers: Iterator[int],
    idle: deque[Any],
    wake: Callable[[], None],
    general: Accept,
) -> Callable[[Any], Receipt | None]:
    """Return a function that accepts a payload with an ordinary draft, for a target that is plain.

    It does the same as ``general``, which takes the payloads that it leaves out. What a function refers to is
    copied at each call, and each condition is looked at: without those that concern no such message, a plain
    publish costs a tenth less (CPU, medians of interleaved rounds).
    """
    mailbox, ready, home = target.mailbox, target.mailbox.ready, target.receipt_home
    options, policy = draft.options, draft.policy
    encode, raw, monotonic = draft.encode, draft.raw, time.monotonic
    kinds = ATOMS if target.config.envelope else ATOMS | {dict}
    copied = dict if draft.copies else None

    def accept(payload: Any) -> Receipt | None:
        if len(ready) >= mailbox.ready_limit or type(payload) not in kinds:
            return general(payload)
        receipt = Receipt(home)
        ready.append(
            LiveDelivery(
                payload, options, policy, headers, None, monotonic(), 0, target, receipt, next(numbers)
            )
        )
        if idle:
            wake()
        return receipt

    def accept_captured(payload: Any) -> Receipt | None:
        kind = type(payload)
        if len(ready) >= mailbox.ready_limit or kind not in kinds:
            return general(payload)
        encoded = None
        if encode is not None:
            encoded = payload if kind is raw else encode(payload)
        if kind is copied:
            payload = captured(payload)
        receipt = Receipt(home)
        ready.append(
            LiveDelivery(
                payload,
                options,
                policy,
                headers,
                None,
                monotonic(),
                0,
                target,
                receipt,
                next(numbers),
                None,
                0,
                False,
                encoded,
            )
        )
        if idle:
            wake()
        return receipt

    return accept if encode is None and copied is None else accept_captured
