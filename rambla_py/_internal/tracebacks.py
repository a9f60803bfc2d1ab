"""Tracebacks of errors that are kept."""

from __future__ import annotations

__all__ = ["drop_tracebacks"]


def drop_tracebacks(error: BaseException | None) -> None:
    """Remove the traceback of an error, and those of its causes, contexts and group members.

    A traceback keeps the frames of the attempt alive, and with them the message. The message refers to its
    error, and is invisible to the garbage collector, so such a cycle would never be freed.
    """
    left, seen = [error], set[int]()
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        BaseException.with_traceback(one, None)
        left += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
