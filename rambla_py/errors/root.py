"""The root of the errors, and the nearest of known names for their texts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = ["RamblaError", "nearest"]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to ``name``, or None when nothing is close.

    >>> nearest("ordrs", ["orders", "invoices"])
    'orders'
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def _restored(kind: type[RamblaError], args: tuple[Any, ...], fields: dict[str, Any]) -> RamblaError:
    """Return a pickled error without a call of its class, which makes the text of other arguments."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class RamblaError(Exception):
    """The root of every error of rambla_py; it can be pickled, whatever its class takes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)
