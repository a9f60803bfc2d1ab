"""The ``null`` handler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from rambla_py.handler import Handler, Preflight, State, Takes

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["NullHandler"]


class NullHandler(Handler):
    """Accepts every message and discards it; the result is None. For benchmarks and disabled backends.

    Delivery: at most once, to nowhere. Nothing is serialized, so nothing can be refused.

    >>> NullHandler(NullHandler.Connection()).handle_batch(["a", "b"], None)
    [None, None]
    """

    guarantee = "at most once, to nowhere: every message is discarded"
    ordered = True
    takes: ClassVar[Takes] = "nothing"

    class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """No keys."""

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """No options."""

    def preflight(self, connection: Any, report: Preflight) -> None:
        """Report nothing: every message is accepted."""

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        """Discard all of them."""
        return [None] * len(messages)
