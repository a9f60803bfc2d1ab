"""Checks of the token that a request brings."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

from rambla_py.errors import OptionError
from rambla_py.handler import Secret

__all__ = ["MOST_WRONG", "TokenCheck", "Verdict"]

MOST_WRONG: Final = 10
"""Wrong tokens within a second after which none is looked at until the second has passed."""

Verdict = Literal["right", "wrong", "too many"]


class TokenCheck:
    """Compares tokens, and the cookies made of one, in constant time. Thread-safe.

    A cookie does not contain the token, and is worth nothing once the token has changed.

    >>> check = TokenCheck("a-long-secret")
    >>> check.token("a-long-secret"), check.token("another"), check.cookie(check.cookie_value)
    ('right', 'wrong', 'right')
    """

    def __init__(self, token: str | Secret, clock: Callable[[], float] = time.monotonic) -> None:
        text = token.reveal() if isinstance(token, Secret) else token
        if not text.strip():
            raise OptionError("token", "expected a string that is not empty, or None")
        self._token = _digest(text)
        key = text.encode("utf-8", "surrogateescape")
        self.cookie_value = hmac.new(key, b"rambla cookie", hashlib.sha256).hexdigest()
        # A name of its own, because servers on other ports of a host share the cookies of this one.
        self.cookie_name = f"rambla_{hmac.new(key, b'rambla name', hashlib.sha256).hexdigest()[:8]}"
        self._clock, self._lock = clock, threading.Lock()
        self._wrong: deque[float] = deque(maxlen=MOST_WRONG)

    def token(self, given: str) -> Verdict:
        """Return whether this is the token."""
        return self._compare(self._token, _digest(given))

    def cookie(self, given: str) -> Verdict:
        """Return whether this is the value of the cookie."""
        return self._compare(_digest(self.cookie_value), _digest(given))

    def _compare(self, expected: bytes, given: bytes) -> Verdict:
        now = self._clock()
        with self._lock:
            if len(self._wrong) == MOST_WRONG and now - self._wrong[0] < 1.0:
                return "too many"
            if hmac.compare_digest(expected, given):
                return "right"
            self._wrong.append(now)
            return "wrong"

    def __repr__(self) -> str:
        return "TokenCheck(***)"


def _digest(text: str) -> bytes:
    """Return a digest, so that a comparison does not depend on lengths."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
