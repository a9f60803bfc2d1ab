"""One request and its answer, whichever client sends it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

__all__ = ["Answer", "Request", "joined_headers"]


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request: ``target`` is path and query as they are sent, ``headers`` pairs of strings.

    ``latin1`` says that values have characters of Latin-1 beyond ASCII.
    """

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    timeout_s: float
    latin1: bool = False


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a server answered, with the names of ``headers`` in lower case.

    ``whole`` is False if the body exceeded the limit, or broke off.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool


def joined_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by name, the values of repeated ones joined by commas."""
    found: dict[str, str] = {}
    for name, value in headers:
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found
