"""What the methods of a tracker return."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

__all__ = ["DONE", "Done"]


class Done:
    """An awaitable that is done already.

    >>> import asyncio
    >>> async def main():
    ...     return await DONE
    >>> print(asyncio.run(main()))
    None
    """

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield

    def __repr__(self) -> str:
        return "<done>"


DONE: Final = Done()
"""What every ``track_*`` method returns, so that ``await tracker.track(...)`` works; it never waits."""
