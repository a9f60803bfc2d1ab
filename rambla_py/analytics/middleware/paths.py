"""Paths of requests without their values: masked segments, a limit of distinct paths, and exclusions."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

__all__ = ["NO_ROUTE", "OTHER", "Exclusions", "PathMasks", "masked"]

NO_ROUTE: Final = "(no route)"
"""Path of a request that no route of the application's router takes."""

OTHER: Final = "(other)"
"""Path of a request beyond the limit of distinct paths, and method of a request that has no known one."""

_MASK: Final = "{id}"
_LONGEST: Final = 32
_LONGEST_PATH: Final = 512
"""Longer ones are ``(other)``: the paths that are kept to be counted are what clients send."""
_SHORTEST_HEX: Final = 16
_HEX: Final = "0123456789abcdefABCDEF"


def masked(path: str) -> str:
    """Return a path whose variable segments are ``{id}``.

    These are digits, UUIDs, 16 or more hexadecimal digits, and segments of more than 32 characters.
    Parameters of a segment (``;jsessionid=...``) and a query are cut off. What is no path at all, or is
    still longer than 512 characters, is ``(other)``.

    >>> masked("/items/17/parts/9f86d081884c7d65")
    '/items/{id}/parts/{id}'
    """
    if path[:1] != "/":
        return path if path in {"", "*"} else OTHER
    found = "/".join([_masked_segment(segment) for segment in path.partition("?")[0].split("/")])
    return found if len(found) <= _LONGEST_PATH else OTHER


def _masked_segment(segment: str) -> str:
    if ";" in segment:
        segment = segment.partition(";")[0]
    # A UUID is either longer than 32 characters, or 32 hexadecimal digits.
    if segment.isdigit() or len(segment) > _LONGEST:
        return _MASK
    if len(segment) >= _SHORTEST_HEX and not segment.strip(_HEX):
        return _MASK
    return segment


class PathMasks:
    """Masks the paths of applications without a router; beyond ``limit`` distinct ones they are ``(other)``.

    >>> masks = PathMasks(limit=1)
    >>> masks.mask("/items/1"), masks.mask("/items/2"), masks.mask("/wp-login.php")
    ('/items/{id}', '/items/{id}', '(other)')
    """

    __slots__ = ("_limit", "_lock", "_seen")

    def __init__(self, limit: int = 1_000) -> None:
        self._limit = limit
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def mask(self, path: str) -> str:
        """Return the masked path. Safe to call from any thread."""
        found = masked(path)
        if found in self._seen:
            return found
        with self._lock:
            if len(self._seen) < self._limit:
                self._seen.add(found)
        return found if found in self._seen else OTHER


class Exclusions:
    """The paths that are not tracked, as names that may hold ``*`` and ``?``.

    >>> Exclusions(["/health*", "/metrics"]).match("/healthz")
    True
    """

    __slots__ = ("_exact", "_patterns", "_prefixes")

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        exact, prefixes, others = set(), [], []
        for pattern in patterns:
            stem = pattern.removesuffix("*")
            if any(special in stem for special in "*?["):
                others.append(pattern)
            elif stem == pattern:
                exact.add(pattern)
            else:
                prefixes.append(stem)
        self._exact, self._prefixes, self._patterns = frozenset(exact), tuple(prefixes), tuple(others)

    def match(self, path: str) -> bool:
        """Return whether a path is excluded."""
        if path in self._exact or path.startswith(self._prefixes):
            return True
        # The usual patterns are no longer among these; a generator costs more than all of the above.
        return bool(self._patterns) and any(fnmatchcase(path, pattern) for pattern in self._patterns)
