"""The configuration that an app runs on: its own, or what a test puts in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rambla_py.config import Config

__all__ = ["Replacement", "replaced", "replacing_all"]

Replacement = Callable[[Config], Config]
"""Returns the configuration to run on in place of an app's own."""

_for_all: list[Replacement] = []


@contextmanager
def replacing_all(replacement: Replacement) -> Iterator[None]:
    """Have every app that starts, or pings, run on a replacement; the innermost one counts."""
    _for_all.append(replacement)
    try:
        yield
    finally:
        _for_all.remove(replacement)


def replaced(config: Config, own: Replacement | None) -> Config:
    """Return the configuration to run on; an app's own replacement wins over the one for all."""
    replacement = own or (_for_all[-1] if _for_all else None)
    return config if replacement is None else replacement(config)
