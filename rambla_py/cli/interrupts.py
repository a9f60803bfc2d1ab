"""This module turns SIGINT and SIGTERM into something that a waiting main thread hears of."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

__all__ = ["Interrupted", "heard", "raised"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """Somebody does not want to wait any longer."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextmanager
def heard(tell: Callable[[int], object]) -> Iterator[None]:
    """Call ``tell`` with the number of each signal; it has to be something that may be called anywhere."""
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

    # A shell that starts us in the background has SIGINT ignored, and means it.
    taken = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
