"""What is returned by functions that instrument an object."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Instrumentation"]


class Instrumentation:
    """The tracking of an instrumented object, until ``uninstrument()`` ends it.

    >>> ended = []
    >>> Instrumentation(lambda: ended.append("engine")).uninstrument()
    >>> ended
    ['engine']
    """

    __slots__ = ("_undo",)

    def __init__(self, undo: Callable[[], None]) -> None:
        self._undo: Callable[[], None] | None = undo

    def uninstrument(self) -> None:
        """Stop tracking; a second call has no effect."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()
