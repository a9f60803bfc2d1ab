"""Calls of Python and C functions, counted."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Calls:
    """Counts calls of Python and of C functions, per thread."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()

    def __call__(self, frame: Any, event: str, what: Any) -> None:
        if event in ("call", "c_call"):
            self.found[frame.f_code.co_qualname if event == "call" else str(what)] += 1

    def per_message(self, messages: int) -> float:
        """Return the calls for one of so many messages."""
        return sum(self.found.values()) / messages

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the calls of this thread."""
        before = sys.getprofile()
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(before)
