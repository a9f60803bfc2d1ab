"""SIGINT and SIGTERM as events for a waiting main thread."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

__all__ = ["Interrupted", "heard", "raised"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal ended the wait."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextmanager
def heard(tell: Callable[[int], object]) -> Iterator[None]:
    """Call ``tell`` with the number of each signal; it must be safe to call in a signal handler."""
    with _handled(tell):
        yield


@contextmanager
def raised() -> Iterator[None]:
    """Raise ``Interrupted`` in the main thread at a signal."""

    def raise_it(number: int) -> None:
        raise Interrupted(number)

    with _handled(raise_it):
        yield


@contextmanager
def _handled(act: Callable[[int], object]) -> Iterator[None]:
    def on_signal(number: int, frame: FrameType | None) -> None:
        act(number)

    # A shell that starts the program in the background ignores SIGINT for it; that stays so.
    taken = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
