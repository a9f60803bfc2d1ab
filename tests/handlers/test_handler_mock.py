"""The handler that a test scripts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from handler_case import Case, delivery

from rambla_py.errors import ConnectionLostError, PermanentError
from rambla_py.handlers import mock
from rambla_py.handlers.mock import Expectations, MockHandler
from rambla_py.message import Failed


@pytest.fixture
def script(request: pytest.FixtureRequest) -> Iterator[Expectations]:
    yield mock.expectations(request.node.name)
    mock.forget(request.node.name)


def call(script: Expectations, payload: Any = None, channel: str = "orders") -> Any:
    case = Case(MockHandler, settings=MockHandler.Connection(name=script.name), channel=channel)
    return case.handler.handle_publish(delivery(payload), case.options, case.state)


def test_the_handler_finds_the_script_by_name(script: Expectations) -> None:
    """What a test expects under the connection's name is what the handler answers."""
    script.expect("orders", {"accepted": True})
    assert call(script) == {"accepted": True}
    script.verify()


def test_expectations_are_used_up_in_order(script: Expectations) -> None:
    """A mock may fail first and succeed later."""
    script.expect(answer=ConnectionLostError("gone"))
    script.expect(answer=Failed("busy"))
    script.expect(answer=lambda message: message.payload * 2)
    with pytest.raises(ConnectionLostError, match="gone"):
        call(script)
    assert call(script) == Failed("busy")
    assert call(script, 21) == 42


def test_an_unexpected_call_is_fatal_and_clear(script: Expectations) -> None:
    """The error names the mock, the call and what was expected instead; verify repeats it."""
    script.expect("invoices")
    with pytest.raises(PermanentError, match=r"did not expect svc\.orders .*1 call\(s\) of \*\.invoices"):
        call(script, {})
    with pytest.raises(AssertionError, match=r"unexpected: svc\.orders message m-\w+ \(dict\)"):
        script.verify()


def test_a_call_too_many_is_unexpected(script: Expectations) -> None:
    """``times`` is a limit."""
    script.expect(times=2)
    call(script)
    call(script)
    with pytest.raises(PermanentError):
        call(script)


def test_missing_calls_are_reported(script: Expectations) -> None:
    """``verify`` fails when calls are missing."""
    script.expect("orders", times=3)
    call(script)
    with pytest.raises(AssertionError, match=r"3 call\(s\) of \*\.orders, got 1"):
        script.verify()


def test_any_number_may_come_or_none(script: Expectations) -> None:
    """``times=None`` is never missing and never used up."""
    script.expect("orders", 1, times=None)
    script.verify()
    assert [call(script) for _ in range(3)] == [1, 1, 1]
    script.verify()


def test_where_narrows_by_message(script: Expectations) -> None:
    """The first expectation that fits answers, not the first of all."""
    script.expect(answer="paid", where=lambda message: message.payload == "paid")
    script.expect(answer="other")
    assert (call(script, "open"), call(script, "paid")) == ("other", "paid")


def test_service_narrows_too(script: Expectations) -> None:
    """A script may serve several services."""
    script.expect(service="elsewhere")
    with pytest.raises(PermanentError):
        call(script)


def test_calls_can_be_looked_at(script: Expectations) -> None:
    """Each attempt is noted with its message."""
    script.expect(times=None)
    call(script, 1)
    call(script, 2, channel="other")
    assert [(made.channel, made.payload) for made in script.calls()] == [("orders", 1), ("other", 2)]
    assert [made.payload for made in script.calls("other")] == [2]


def test_a_with_block_verifies(script: Expectations) -> None:
    """Leaving the block checks the script, but hides no error of the block itself."""
    with pytest.raises(AssertionError, match="got 0"), script:
        script.expect()
    with pytest.raises(KeyError), script:
        raise KeyError


def test_threads_share_a_script(script: Expectations) -> None:
    """An expectation for n calls answers exactly n calls, from any thread."""
    script.expect(answer=1, times=50)
    with ThreadPoolExecutor(8) as pool:
        attempts = [pool.submit(call, script) for _ in range(80)]
    assert sum(1 for attempt in attempts if attempt.exception() is None) == 50
    assert len(script.calls()) == 80


def test_the_tables_are_checked() -> None:
    """A script's name is text that is not empty."""
    assert msgspec.convert({"name": "payments"}, MockHandler.Connection).name == "payments"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": ""}, MockHandler.Connection)
