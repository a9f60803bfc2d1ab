"""Answers that mean a failure and cannot be one: the class Failed, RETRY, STOP, exception classes."""

from __future__ import annotations

from typing import Any

import pytest
from small_apps import one, running, table

from rambla_py import RETRY, STOP, Failed, Handler, HandlerError, Retry
from rambla_py.message import Stop

MISUSED = [Failed, RETRY, STOP, Retry(delay_s=1.0), Stop, ValueError, KeyboardInterrupt]


def handler_of(level: str, answer: Any) -> type[Handler]:
    """Return a handler that answers so at that level of the contract."""
    if level.startswith("async"):

        async def handle(self: Handler, *args: Any) -> Any:
            return [answer] * len(args[0]) if level == "async batch" else answer

    else:

        def handle(self: Handler, *args: Any) -> Any:  # type: ignore[misc]  # the other colour
            return [answer] * len(args[0]) if level == "batch" else answer

    return type("Probe", (Handler,), {f"handle_{level.split()[-1]}": handle})


LEVELS = ["publish", "batch", "async publish", "async batch"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("answer", MISUSED, ids=repr)
def test_an_answer_that_means_a_failure_is_one(level: str, answer: Any) -> None:
    """It is a failed attempt whose error names what was returned and what to return instead."""
    with running(table(handler_of(level, answer), {"retries": 1})) as app:
        outcome = one(app)
    assert (outcome.status, outcome.attempts) == ("fatal", 2)
    assert isinstance(outcome.error, HandlerError)
    named = answer.__name__ if isinstance(answer, type) else type(answer).__name__.upper()
    assert named in str(outcome.error)
    assert "was returned" in str(outcome.error)


@pytest.mark.parametrize("level", LEVELS)
def test_a_returned_exception_is_the_failure_itself(level: str) -> None:
    """An exception that is returned counts as if it had been raised."""
    error = ValueError("no")
    with running(table(handler_of(level, error), {"retries": 0})) as app:
        outcome = one(app)
    assert (outcome.status, outcome.error) == ("fatal", error)
