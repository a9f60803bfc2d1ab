"""The handlers that do nothing, and that always say the same."""

from __future__ import annotations

from handler_case import Case, delivery

from rambla_py.handlers.null import NullHandler
from rambla_py.handlers.stub import StubHandler
from rambla_py.message import Failed, Ok


def test_null_takes_everything() -> None:
    """One result for each, what cannot be serialized included."""
    assert Case(NullHandler).send({"a": 1}, object()) == [None, None]


def test_stub_answers_with_its_result() -> None:
    """The result is success even where a bare value could be taken for something else."""
    failed = Failed("no")
    assert Case(StubHandler, result=failed).send(1, 2) == [Ok(failed), Ok(failed)]


def test_stub_fails_with_its_error() -> None:
    """An error text wins over the result."""
    assert Case(StubHandler, error="quota", result=1, retryable=False).send(1) == [Failed("quota", False)]


def test_stub_answers_each_message_by_its_own_options() -> None:
    """A payload can make its message fail without affecting the next one."""
    case = Case(StubHandler, result="ok")
    bad = delivery(1, options=StubHandler.Options(error="bad"))
    assert case.send(1, bad, 2) == [Ok("ok"), Failed("bad", True), Ok("ok")]
