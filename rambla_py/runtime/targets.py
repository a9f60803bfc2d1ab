"""The targets of one app, each made when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from rambla_py.errors import NotRunningError

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.runtime.target.target import Target

__all__ = ["Routes", "Targets"]

Make = Callable[["ChannelConfig"], "Target"]


class Targets:
    """The targets of an app by ``service.channel``: an app of 1,000 channels makes those that are used.

    Thread-safe without a lock, so that a signal handler may publish at any moment: if two threads make the
    same target, one of the two is used and the other, which nothing refers to yet, is thrown away.
    ``close`` is called with each target that is made after ``seal``.
    """

    def __init__(self, configs: Iterable[ChannelConfig], make: Make, close: Callable[[Target], None]) -> None:
        self._configs = {config.name: config for config in configs}
        self._make, self._close = make, close
        self._made: dict[str, Target] = {}
        self._sealed = False

    def get(self, name: str) -> Target:
        """Return the target of a name ``service.channel``."""
        target = self._made.get(name)
        return self._added(name) if target is None else target

    def open(self, name: str) -> Target:
        """Return the target of a name for a publisher; raises ``NotRunningError`` if it is made too late."""
        target = self._made.get(name)
        if target is None:
            target = self._added(name)
            if self._sealed:
                raise NotRunningError("stopping")
        return target

    def made(self) -> list[Target]:
        """Return those that have been made: only they can have messages."""
        return list(self._made.values())

    def every(self) -> list[Target]:
        """Return all, in the order of the configuration, and make those that are missing."""
        return [self.get(name) for name in self._configs]

    def known(self) -> list[tuple[str, Target | None]]:
        """Return all names, in the order of the configuration, with the targets that have been made."""
        return [(name, self._made.get(name)) for name in self._configs]

    def seal(self) -> list[Target]:
        """Return those that have been made; what is made from now on, only to be looked at, takes nothing."""
        self._sealed = True
        return self.made()

    def _added(self, name: str) -> Target:
        target = self._made.setdefault(name, self._make(self._configs[name]))
        if self._sealed:  # read after the target is in the dictionary: either ``seal`` returned it, or this
            self._close(target)
        return target


class Routes(Mapping[str, "tuple[Target, ...]"]):
    """Targets by the name of their channel, and each by ``service.channel``; made when they are looked up."""

    def __init__(self, configs: Iterable[ChannelConfig], targets: Targets) -> None:
        self._targets = targets
        self._names: dict[str, tuple[str, ...]] = {}
        for config in configs:
            channel, name = config.channel, config.name
            self._names[channel] = (*self._names.get(channel, ()), name)
            self._names[name] = (name,)
        self._found: dict[str, tuple[Target, ...]] = {}

    def __getitem__(self, name: str) -> tuple[Target, ...]:
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = tuple(self._targets.open(one) for one in self._names[name])
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
