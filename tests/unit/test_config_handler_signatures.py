"""Handlers whose methods cannot be called are refused when the configuration is loaded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from rambla_py import ConfigError, Handler, load_config
from rambla_py.config.handler_signatures import misfits


def with_session(method: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that gives the function one argument more."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        return method(*args, "session", **kwargs)

    return call


class Fitting(Handler):
    """Every method in another form that can be called as the contract says."""

    def handle_publish(self, *given: Any) -> None: ...
    def handle_batch(self, batch: Any, state: Any, extra: int = 1) -> None: ...
    @staticmethod
    def connect() -> None: ...
    @classmethod
    def close(cls, connection: Any) -> None: ...

    ping = staticmethod(print)

    @with_session
    def on_success(self, outcome: Any, session: str) -> None: ...


def test_handlers_that_fit_have_no_problem() -> None:
    """Defaults, starred arguments, static and class methods, callables written in C, decorated methods."""
    assert misfits(Fitting) == []


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("connect", lambda self, url: None),
        ("close", lambda self: None),
        ("handle_batch", lambda self, messages, *, state: None),
        ("on_failure", lambda self: None),
        ("handle_batch", lambda self, messages, options, state: []),
        ("external_servers", lambda self: []),
    ],
)
def test_a_method_that_cannot_be_called_is_named(name: str, method: Any) -> None:
    """With the signature that it has and the one that it needs."""
    wrong = type("Wrong", (Fitting,), {name: method})
    with pytest.raises(ConfigError) as caught:
        load_config({"mine": {"handler": wrong, "channels": {"orders": {}}}})
    (problem,) = caught.value.problems
    assert problem.path == "mine.handler"
    assert problem.expected.startswith(f"a method that can be called as {name}(")
    assert f"Wrong.{name}(self" in problem.got
