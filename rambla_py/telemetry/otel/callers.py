"""Number of spans under each caller's span."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from opentelemetry.trace import Span

__all__ = ["Caller", "Callers"]

_MOST_CALLERS: Final = 1_000
_SWEEP_S: Final = 0.5


class Caller:
    """One caller's span: how many spans were made under it, and how many were not.

    ``held`` is the last one that was made, with its end in nanoseconds: it ends once all are counted.
    """

    __slots__ = ("held", "key", "left_out", "made", "span", "swept")

    def __init__(self, key: tuple[int, int]) -> None:
        self.key = key
        self.made = self.left_out = self.swept = 0
        self.span: Span | None = None
        self.held: tuple[Span, int] | None = None


class Callers:
    """Allows ``most`` spans under each caller's span, and counts the others on the last one. Thread-safe.

    It lives with the app, on whose timer it looks whether callers have ended; ``wake`` schedules it, and
    returns False while the app does not run.
    """

    def __init__(self, most: int, wake: Callable[[float], bool]) -> None:
        self._most, self._wake = most, wake
        self._lock = threading.Lock()
        self._callers: OrderedDict[tuple[int, int], Caller] = OrderedDict()

    def admit(self, key: tuple[int, int]) -> tuple[bool, Caller | None]:
        """Count one more span; return whether it may be made, and its caller if it is the last one.

        ``key`` are the ids of the caller's trace and span.
        """
        with self._lock:
            found = self._callers.get(key)
            if found is None:
                found = self._callers[key] = Caller(key)
                self._trim()
            self._callers.move_to_end(key)
            if found.made >= self._most:
                found.left_out += 1
                return False, None
            found.made += 1
            return True, found if found.made == self._most else None

    def hold(self, caller: Caller, parent: Span, span: Span, end_ns: int) -> None:
        """Keep the last span until its caller has ended, and all that is left out is counted.

        It ends at once if nothing would look at it later: its caller was forgotten, as there were too many,
        or the app does not run.
        """
        with self._lock:
            is_known = self._callers.get(caller.key) is caller
            caller.span, caller.held = parent, (span, end_ns)
        if not (is_known and self._wake(time.monotonic() + _SWEEP_S)):
            with self._lock:
                last, caller.span, caller.held = caller.held, None, None
            _end(last, caller.left_out)

    # -- with the app ---------------------------------------------------------------------------------

    def run(self, now: float) -> float | None:
        """End the spans whose callers have ended; return when to look again."""
        return now + _SWEEP_S if self._sweep() else None

    def after_fork(self) -> None:
        """Leave the spans to the parent process."""
        self._lock = threading.Lock()
        self._callers.clear()

    def stopped(self) -> None:
        """End the spans that are held."""
        self._sweep(all_of_them=True)

    def _sweep(self, *, all_of_them: bool = False) -> bool:
        """End what can be ended; return whether something is still held."""
        with self._lock:
            held = [caller for caller in self._callers.values() if caller.held is not None]
            over = [caller for caller in held if all_of_them or _is_over(caller)]
            ends = [(caller.held, caller.left_out) for caller in over]
            for caller in over:
                caller.span = caller.held = None
        for last, left_out in ends:
            _end(last, left_out)
        return len(held) > len(over)

    def _trim(self) -> None:
        if len(self._callers) > _MOST_CALLERS:
            _, oldest = self._callers.popitem(last=False)
            _end(oldest.held, oldest.left_out)


def _is_over(caller: Caller) -> bool:
    """Return whether a caller's span has ended; one of another process, when nothing was left out lately."""
    quiet, caller.swept = caller.swept == caller.left_out, caller.left_out
    return quiet and (caller.span is None or not caller.span.is_recording())


def _end(held: tuple[Span, int] | None, left_out: int) -> None:
    if held is not None:
        span, end_ns = held
        if left_out:
            span.set_attribute("rambla.create.left_out", left_out)
        span.end(end_ns)
