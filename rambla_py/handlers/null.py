"""This module is the handler that takes every message and does nothing with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from rambla_py.handler import Handler, State

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["NullHandler"]


class NullHandler(Handler):
    """Accepts every message and forgets it; the result is None. For benchmarks and switched-off backends.

    Delivery: at most once, to nowhere. Nothing is serialized, so nothing can be refused.

    >>> NullHandler(NullHandler.Connection()).handle_batch(["a", "b"], None)
    [None, None]
    """

    guarantee = "at most once, to nowhere: every message is forgotten"
    ordered = True

    class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """There is nothing to connect to."""

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """There is nothing to set."""

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        """Forget all of them."""
        return [None] * len(messages)
