"""The ``mock`` handler."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec
from msgspec import Meta

from rambla_py._internal.named_objects import Named
from rambla_py.errors import PermanentError
from rambla_py.handler import Handler, Preflight, State
from rambla_py.serialization.wire_format import wire_headers

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["Call", "Expectation", "Expectations", "MockHandler", "expectations", "forget"]

_EVENT_PREFIX = "ce-"


class Call(msgspec.Struct, frozen=True):
    """One attempt that reached the mock; ``expected`` is False if no expectation matched."""

    channel: str
    service: str
    payload: Any
    id: str
    key: str | None
    headers: dict[str, Any]
    expected: bool


class Expectation(msgspec.Struct, eq=False):
    """An expected call: the answer, what it must match, the number of ``times`` (None: any), and ``used``."""

    answer: Any
    channel: str | None
    service: str | None
    times: int | None
    where: Callable[[Any], bool] | None
    used: int = 0

    @property
    def missing(self) -> int:
        """How many expected calls have not been made yet."""
        return 0 if self.times is None else self.times - self.used

    def matches(self, message: Any, state: State) -> bool:
        """Return whether this expectation has a call left and matches the message."""
        return (
            (self.times is None or self.used < self.times)
            and self.channel in (None, state.channel)
            and self.service in (None, state.service)
            and (self.where is None or bool(self.where(message)))
        )

    def __str__(self) -> str:
        wanted = "any number of calls" if self.times is None else f"{self.times} call(s)"
        where = f"{self.service or '*'}.{self.channel or '*'}"
        return f"{wanted} of {where}{' that match where=' if self.where else ''}, got {self.used}"


class Expectations:
    """The script of one mock: expected calls and their answers. Thread-safe.

    >>> script = Expectations("payments")
    >>> _ = script.expect("orders", {"accepted": True}, times=2)
    >>> script.verify()
    Traceback (most recent call last):
    AssertionError: mock 'payments': 2 call(s) of *.orders, got 0
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._lock = threading.RLock()
        self._expected: list[Expectation] = []
        self._calls: list[Call] = []

    def expect(
        self,
        channel: str | None = None,
        answer: Any = None,
        *,
        times: int | None = 1,
        service: str | None = None,
        where: Callable[[Any], bool] | None = None,
    ) -> Expectation:
        """Expect ``times`` attempts on a channel (None: on any channel), and answer each of them.

        ``times=None`` allows any number of attempts, including none. ``answer`` is what the handler returns
        (a value, ``Ok``, ``Failed``), an exception that it raises, or a function of the message that returns
        or raises. ``where`` filters by the message: its ``payload``, ``id``, ``key``, ``headers``.
        Expectations are used up in the order in which they were made. A retry counts as an attempt.
        """
        expectation = Expectation(answer, channel, service, times, where)
        with self._lock:
            self._expected.append(expectation)
        return expectation

    def answer(self, message: Any, state: State) -> Any:
        """Return or raise the answer for this message; raises ``PermanentError`` if it is not expected."""
        with self._lock:
            found = next((one for one in self._expected if one.matches(message, state)), None)
            if found is not None:
                found.used += 1
            self._calls.append(_call(message, state, expected=found is not None))
        if found is None:
            raise PermanentError(self._unexpected(message, state))
        # Outside the lock: the test's function may publish, or use the script.
        return _given(found.answer, message)

    def calls(self, channel: str | None = None) -> list[Call]:
        """Return all attempts so far, expected or not, oldest first."""
        with self._lock:
            return [call for call in self._calls if channel in (None, call.channel)]

    def verify(self) -> None:
        """Raise ``AssertionError`` unless every expected call was made, and no other."""
        with self._lock:
            wrong = [str(one) for one in self._expected if one.missing]
            wrong += [f"unexpected: {_named(call)}" for call in self._calls if not call.expected]
        if wrong:
            raise AssertionError(f"mock {self.name!r}: " + "; ".join(wrong))

    def clear(self) -> None:
        """Remove all expectations and calls."""
        with self._lock:
            self._expected.clear()
            self._calls.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Verify, unless the block raised: its own error says more."""
        if error is None:
            self.verify()

    def __repr__(self) -> str:
        with self._lock:
            missing = sum(one.missing for one in self._expected)
            return f"<Expectations {self.name!r}: {len(self._calls)} calls, {missing} missing>"

    def _unexpected(self, message: Any, state: State) -> str:
        with self._lock:
            listed = "; ".join(map(str, self._expected)) or "nothing"
        call = _named(_call(message, state, expected=False))
        return f"mock {self.name!r} did not expect {call}; expected: {listed}"


def _call(message: Any, state: State, *, expected: bool) -> Call:
    return Call(
        state.channel,
        state.service,
        message.payload,
        message.id,
        message.key,
        dict(wire_headers(message, _EVENT_PREFIX)),
        expected,
    )


def _named(call: Call) -> str:
    return f"{call.service}.{call.channel} message {call.id} ({type(call.payload).__name__})"


def _given(answer: Any, message: Any) -> Any:
    if isinstance(answer, BaseException) or (isinstance(answer, type) and issubclass(answer, BaseException)):
        raise answer
    return answer(message) if callable(answer) else answer


_scripts = Named(Expectations)


def expectations(name: str) -> Expectations:
    """Return this process's script for connections with this ``name``; creates it if necessary.

    It is kept until ``forget(name)``. Two apps share a script only when both configure the same name.

    >>> with expectations("payments") as script:
    ...     _ = script.expect("orders", times=None)
    """
    return _scripts.get(name)


def forget(name: str) -> None:
    """Remove the script of this name, at the end of a test."""
    _scripts.forget(name)


class MockHandler(Handler):
    """Answers each attempt from the script ``mock.expectations(name)``; an unexpected one is fatal at once.

    Delivery: none; every attempt is one call, in the order of arrival, without serializing the payload. A
    connection without a ``name`` has a script of its own; a callable payload receives it as ``destination``.
    """

    guarantee = "none: every attempt gets the answer that the test scripted"

    class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
        """The script that answers."""

        name: Annotated[
            Annotated[str, Meta(min_length=1)] | None,
            Meta(description="the name for mock.expectations(name); default: a script of the app's own"),
        ] = None

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """No options."""

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return ``ce-``: a call shows headers, so it shows the attributes of a CloudEvent."""
        return _EVENT_PREFIX

    def connect(self) -> Expectations:
        """Return the script; it is never lost, but it may answer with a loss."""
        return _scripts.of(self.settings)

    def preflight(self, connection: Any, report: Preflight) -> None:
        """Report nothing: every message is accepted."""

    def handle_publish(self, message: Delivery, options: Any, state: State) -> Any:
        """Return or raise the answer for this message."""
        return state.connection.answer(message, state)
