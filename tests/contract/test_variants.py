"""Reduced suites: each handler still has a whole one."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from variants import names_of_tests, variant_of

from rambla_py.handler import Handler
from rambla_py.registry import find_handler, handler_names
from rambla_py.testing import HandlerContract
from rambla_py.testing.contract_tests.delivery import DeliveryTests
from rambla_py.testing.contract_tests.losses import LossTests


def suites() -> Iterator[type[HandlerContract]]:
    """Yield the contract suites of this folder."""
    for path in Path(__file__).parent.glob("test_*.py"):
        for name, found in vars(importlib.import_module(path.stem)).items():
            if name.startswith("Test") and isinstance(found, type) and issubclass(found, HandlerContract):
                yield found


def class_of(suite: type[HandlerContract]) -> type[Handler]:
    return find_handler(suite.handler) if isinstance(suite.handler, str) else suite.handler


def test_each_handler_has_a_whole_suite() -> None:
    """A handler is tested by at least one suite that is no variant of another."""
    tested = {class_of(suite) for suite in suites() if "variant_of" not in vars(suite)}
    handlers = {find_handler(name) for name in handler_names()}
    assert {each for each in handlers - tested if each.__module__.startswith("rambla_py.")} == set()


def test_a_variant_belongs_to_a_whole_suite_of_its_backend() -> None:
    """The tests that a variant leaves out run on a class of the same package."""
    for suite in suites():
        whole = vars(suite).get("variant_of")
        if whole is not None:
            assert "variant_of" not in vars(whole)
            assert class_of(suite).__module__ == class_of(whole).__module__
            assert len([*names_of_tests(suite)]) < len([*names_of_tests(whole)])


def test_a_variant_has_the_tests_that_it_names_and_its_own() -> None:
    """Single tests and classes of tests; the rest is absent."""

    class Whole(HandlerContract):
        handler = "memory"

    class Part(HandlerContract):
        handler = "memory"

        def test_of_its_own(self) -> None:
            """Kept."""

    variant_of(Whole, LossTests, "test_ping_finds_the_server")(Part)
    assert {*names_of_tests(Part)} <= {*names_of_tests(LossTests)} | {
        "test_ping_finds_the_server",
        "test_of_its_own",
    }
    assert {"test_ping_finds_the_server", "test_of_its_own"} < {*names_of_tests(Part)}
    assert not {*names_of_tests(DeliveryTests)} & {*names_of_tests(Part)}
    assert {*names_of_tests(DeliveryTests)} < {*names_of_tests(Whole)}


def test_a_variant_that_names_no_test_is_refused() -> None:
    """A misspelled test, and a variant of a variant."""

    class Whole(HandlerContract):
        handler = "memory"

    class Part(HandlerContract):
        handler = "memory"

    with pytest.raises(ValueError, match="has no"):
        variant_of(Whole, "test_pong")(Part)
    variant_of(Whole, DeliveryTests)(Part)
    with pytest.raises(ValueError, match="is a variant itself"):
        variant_of(Part, DeliveryTests)
