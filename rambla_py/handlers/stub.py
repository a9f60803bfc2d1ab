"""This module is the handler that gives every message the same answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from rambla_py.handler import Handler, State
from rambla_py.message import Failed, Ok

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["StubHandler"]


class StubHandler(Handler):
    """Answers every message with ``result``, or fails every attempt with the text ``error``.

    The answer may be set for the channel and for one message. Delivery: none; each attempt is answered by
    itself, in order, without serializing the payload.

    >>> options = StubHandler.Options(error="quota reached", retryable=False)
    >>> options.answer()
    Failed(reason='quota reached', retryable=False)
    """

    guarantee = "none: every attempt gets the answer that the options fix"

    class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """There is nothing to connect to."""

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """The fixed answer."""

        result: Annotated[Any, Meta(description="what every delivery succeeds with")] = None
        error: Annotated[str | None, Meta(description="fail every attempt with this text")] = None
        retryable: Annotated[bool, Meta(description="whether another attempt may follow the error")] = True

        def answer(self) -> Ok | Failed:
            """Return what these options say to a message."""
            return Ok(self.result) if self.error is None else Failed(self.error, self.retryable)

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Ok | Failed]:
        """Answer each as its options say."""
        return [message.options.answer() for message in messages]
