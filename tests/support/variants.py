"""Suites that differ from another one in a setting, and repeat only the tests that the setting affects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

__all__ = ["names_of_tests", "variant_of"]

_Suite = TypeVar("_Suite", bound=type)


def variant_of(whole: type, *tests: type | str) -> Callable[[_Suite], _Suite]:
    """Reduce a suite to the tests that differ from those of another suite, which has them all.

    ``tests`` are classes of the contract (``LossTests``) and names of single tests; what the decorated class
    defines itself is kept as well. The others are absent, not skipped. Raises ``ValueError`` for a name that
    the suite does not have, and for a ``whole`` that is a variant itself.

        @variant_of(TestMqtt, DeliveryTests, LossTests)
        class TestMqttOnce(Mqtt):
            qos = 2
    """
    if "variant_of" in vars(whole):
        raise ValueError(f"{whole.__name__} is a variant itself")

    def reduce(suite: _Suite) -> _Suite:
        kept = {name for name in tests if isinstance(name, str)}
        kept.update(name for part in tests if isinstance(part, type) for name in vars(part))
        if unknown := [name for name in tests if isinstance(name, str) and not hasattr(suite, name)]:
            raise ValueError(f"{suite.__name__} has no {unknown}")
        for name in [*names_of_tests(suite)]:
            if name not in kept and getattr(suite, name).__qualname__ != f"{suite.__qualname__}.{name}":
                setattr(suite, name, None)
        suite.variant_of = whole  # type: ignore[attr-defined]  # read by test_variants
        return suite

    return reduce


def names_of_tests(suite: Any) -> Iterator[str]:
    """Yield the names of the tests that a suite has."""
    for name in dir(suite):
        if name.startswith("test_") and callable(getattr(suite, name)):
            yield name
