"""The ``stub`` handler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from rambla_py.handler import Handler, Preflight, State
from rambla_py.message import Failed, Ok

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["StubHandler"]


class StubHandler(Handler):
    """Answers every message with ``result``, or fails every attempt with the reason ``error``.

    The answer may be set for the channel and for one message. Delivery: none; each attempt is answered in
    order, without serializing the payload.

    >>> options = StubHandler.Options(error="quota reached", retryable=False)
    >>> options.answer()
    Failed(reason='quota reached', retryable=False)
    """

    takes = "nothing"
    guarantee = "none: every attempt gets the answer in the options"

    class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """No keys."""

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """The fixed answer."""

        result: Annotated[Any, Meta(description="result of every delivery")] = None
        error: Annotated[str | None, Meta(description="fail every attempt with this reason")] = None
        retryable: Annotated[bool, Meta(description="whether the error is retried")] = True

        def answer(self) -> Ok | Failed:
            """Return the answer for each message."""
            return Ok(self.result) if self.error is None else Failed(self.error, self.retryable)

    def preflight(self, connection: Any, report: Preflight) -> None:
        """Report nothing: every message is accepted."""

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Ok | Failed]:
        """Answer each message as its options say."""
        return [message.options.answer() for message in messages]
