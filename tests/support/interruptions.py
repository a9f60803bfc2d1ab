"""What a signal handler may do, at a chosen point of the code under test instead of a random one."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# After these, CPython looks for signals; after a call of a Python function only where that begins.
_CHECKS = {"CALL", "CALL_KW", "CALL_FUNCTION_EX", "CALL_FUNCTION", "CALL_METHOD", "JUMP_BACKWARD", "RESUME"}

_MORE = 8


class Point:
    """One point in the code: ``reached`` once the code has come there."""

    def __init__(self) -> None:
        self.reached = False


@contextmanager
def interrupted_at(
    number: int, files: tuple[str, ...], action: Callable[[], Any], *, entries: bool = False
) -> Iterator[Point]:
    """Call ``action`` on this thread, once, at the ``number``-th point of ``files`` where a signal may come.

    What the action raises is raised there. ``entries``: with CPython 3.11 too, the beginnings of functions
    are among the points.
    """
    point, seen = Point(), 0
    last: tuple[FrameType | None, str] = (None, "")

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen, last
        before, last = last, (None, "")
        if event == "call":
            # Exceptions in the callbacks of weak references are reported, and end there.
            ours = frame.f_code.co_filename.endswith(files) and frame.f_code.co_name != "<lambda>"
            if not ours:
                return None
            frame.f_trace = trace  # CPython 3.13 reports opcodes only of a frame that has a function by then
            frame.f_trace_opcodes = True
            if entries:
                last = (frame, "RESUME")
            return trace
        if event == "opcode":
            last = (frame, dis.opname[frame.f_code.co_code[frame.f_lasti]])
            if before[0] is frame and before[1] in _CHECKS and not point.reached:
                seen += 1
                if seen > number:
                    point.reached = True
                    action()
        elif event == "line":
            last = before
        return trace

    # CPython 3.12 reports opcodes only if a frame asks for them when the function is set.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(trace)
    try:
        yield point
    finally:
        sys.settrace(None)


def every_point(run: Callable[[int], Point]) -> int:
    """Call ``run`` with 0, 1, 2, ... to the last point that the code comes to; return how many there were.

    Which way the code takes varies with other threads, so it is called some times more.
    """
    reached = missed = number = 0
    while missed < _MORE:
        if run(number).reached:
            reached, missed = reached + 1, 0
        else:
            missed += 1
        number += 1
    return reached
