"""Fingerprints of errors: equal for errors of the same kind, whatever values their texts name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from rambla_py.telemetry.normalizing import normalized

__all__ = ["error_types", "fingerprint"]

_DIGITS: Final = 12
_LONGEST_CHAIN: Final = 10


def fingerprint(handler: str, errors: Sequence[str], message: str) -> str:
    """Return 12 hexadecimal digits for the kind of an error: its handler, types and text without values.

    >>> one = fingerprint("AmqpHandler", ["UnroutableError"], "no queue for 'paid' at 10.0.0.7:5672")
    >>> one == fingerprint("AmqpHandler", ["UnroutableError"], "no queue for 'sent' at 10.0.0.8:5672")
    True
    >>> one == fingerprint("AmqpHandler", ["RejectedError"], "no queue for 'paid' at 10.0.0.7:5672")
    False
    """
    # Lengths keep a part from running into the next one.
    parts = [handler, *errors, normalized(message)]
    whole = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]


def error_types(error: BaseException | None) -> tuple[str, ...]:
    """Return the names of the types of an error and its causes, at most ten.

    >>> error = ValueError("no")
    >>> error.__cause__ = KeyError("id")
    >>> error_types(error)
    ('ValueError', 'KeyError')
    """
    names: list[str] = []
    while error is not None and len(names) < _LONGEST_CHAIN:
        names.append(type(error).__name__)
        hidden = None if error.__suppress_context__ else error.__context__
        error = error.__cause__ or hidden
    return tuple(names)
