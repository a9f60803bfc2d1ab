"""Flags of contract suites, which decide which tests a subclass has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["FlaggedTests", "only_if"]

_Test = TypeVar("_Test", bound=Callable[..., Any])


def only_if(flag: str) -> Callable[[_Test], _Test]:
    """Give a test only to classes whose flag is up; elsewhere it is absent, not skipped."""

    def mark(test: _Test) -> _Test:
        test._rambla_flag = flag  # type: ignore[attr-defined]  # read in __init_subclass__
        return test

    return mark


class FlaggedTests:
    """A suite whose subclasses have the tests marked with ``only_if`` where the flag is up."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in reversed(cls.__mro__[1:]):
            for name, test in vars(base).items():
                flag = getattr(test, "_rambla_flag", None)
                if flag is not None and name not in vars(cls):
                    setattr(cls, name, test if cls._is_up(flag) else None)

    @classmethod
    def _is_up(cls, flag: str) -> bool:
        return bool(getattr(cls, flag))
