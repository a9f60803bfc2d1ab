"""Contract tests: what failed messages leave behind."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Mapping
from typing import Any

import pytest

from rambla_py.errors import SerializationError
from rambla_py.message import Message
from rambla_py.outcome import Outcome
from rambla_py.telemetry.events import Event
from rambla_py.testing.contract_case import HandlerCase
from rambla_py.testing.flags import only_if
from rambla_py.testing.harness import CHANNEL, Harness, until

__all__ = ["FailureTests"]

PAYLOAD_DATA = "4111-1111-canary"
_NUMBER = 5


class FailureTests(HandlerCase):
    """Of failures: no data of the message shows, and no message stays in memory."""

    @only_if("has_poison")
    def test_the_data_of_a_refused_message_never_shows(self) -> None:
        """What ``publish`` or the backend refuses is in no log, event, status, or string of an error."""
        events: list[Event] = []
        with self.trial() as trial:
            trial.app.listen(events.append)
            refusal = _refusal(trial, self.poison_with(PAYLOAD_DATA))
            assert refusal is not None, "it was delivered: write poison_with() so that it is refused"
            trial.stop(timeout_s=1.0)
            said = [*trial.everything_said(causes=False), *map(repr, events), str(refusal)]
        shown = [text for text in said if PAYLOAD_DATA in text]
        assert not shown, f"the payload's data shows: {shown[:3]}"

    @only_if("has_poison")
    @pytest.mark.parametrize("settled", ["alone", "in a batch"])
    def test_a_refused_message_is_freed(self, settled: str) -> None:
        """After its outcome nothing keeps its payload alive."""
        number = 1 if settled == "alone" else _NUMBER
        with self.trial(snapshot=False) as trial:
            watch = _Watch()
            _fail(trial, [watch.message(self.poison()) for _ in range(number)], {"fatal"})
            watch.check(self.release_s)

    @only_if("serializes")
    def test_an_unserializable_message_is_freed(self) -> None:
        """One that publish refuses, or that is fatal for it."""
        with self.trial(snapshot=False) as trial:
            watch = _Watch()
            for _ in range(_NUMBER):
                _refuse(trial, watch.message(self.unserializable()[0]))
            watch.check(self.release_s)

    @only_if("has_server")
    def test_a_message_that_expires_is_freed(self) -> None:
        """One that waited for a server that cannot be reached."""
        with self.trial(self.unreachable(), snapshot=False, options={"expires_s": 0.2}) as trial:
            watch = _Watch()
            _fail(trial, [watch.message(self.payload(at)) for at in range(_NUMBER)], {"expired"})
            watch.check(self.release_s)

    @only_if("can_silence")
    def test_a_message_that_is_never_answered_is_freed(self) -> None:
        """One whose attempt timed out, although the connection may still wait for the answer."""
        expires = {"expires_s": 2 * self.answer_s}
        channel = {"attempt_timeout_s": self.answer_s, "on_unknown": "report", "options": expires}
        with self.trial(self.impatient(), snapshot=False, **channel) as trial:
            assert trial.publish(self.payload(_NUMBER), expires_s=None).status == "ok"
            self.silence()
            watch = _Watch()
            _fail(trial, [watch.message(self.payload(at)) for at in range(_NUMBER)], {"unknown", "expired"})
            self.end_silence()
            watch.check(self.release_s)
            trial.stop(timeout_s=0.2)


class _Table(dict[Any, Any]):
    """A dict that supports weak references."""


class _Row(list[Any]):
    """A list that supports weak references."""


class _String(str):
    """A string that supports weak references."""

    __slots__ = ("__weakref__",)


_WATCHED: Mapping[type, Any] = {dict: _Table, list: _Row, str: _String}


class _Watch:
    """Payloads that should be freed; those of other types than dict, list and string are not watched."""

    def __init__(self) -> None:
        self._references: list[weakref.ref[Any]] = []

    def message(self, message: Any) -> Any:
        """Return a message with a payload that is watched."""
        payload = message.payload if isinstance(message, Message) else message
        watched = _WATCHED.get(type(payload))
        if watched is None:
            return message
        own = watched(payload)
        self._references.append(weakref.ref(own))
        return Message(own, **message.options) if isinstance(message, Message) else own

    def check(self, release_s: float) -> None:
        """Check that none is alive; the worker may need a moment to release its last batch."""
        assert until(lambda: not self._alive(), release_s), self._report()

    def _alive(self) -> list[Any]:
        with warnings.catch_warnings():
            # An earlier test may have left sockets to the collector.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        return [found for reference in self._references if (found := reference()) is not None]

    def _report(self) -> str:
        alive = self._alive()
        holders = {type(one).__qualname__ for one in gc.get_referrers(*alive) if one is not alive}
        return f"{len(alive)} of {len(self._references)} payloads are alive, held by {sorted(holders)}"


def _fail(trial: Harness, messages: list[Any], statuses: set[str]) -> None:
    """Publish messages that are to fail, and keep nothing of them."""
    receipts = [trial.app.publish(CHANNEL, messages.pop()) for _ in range(len(messages))]
    found = [_status(receipt.outcomes(timeout_s=trial.patience_s)[0]) for receipt in receipts]
    assert set(found) <= statuses, f"{found}"


def _refusal(trial: Harness, message: Any) -> BaseException | None:
    """Publish a message; return the error with which it was refused, None when it was not."""
    try:
        outcome = trial.publish(message)
    except SerializationError as error:
        return error
    return outcome.error if outcome.status == "fatal" else None


def _refuse(trial: Harness, message: Any) -> None:
    try:
        receipt = trial.app.publish(CHANNEL, message)
    except SerializationError:
        return
    assert _status(receipt.outcomes(timeout_s=trial.patience_s)[0]) == "fatal"


def _status(outcome: Outcome) -> str:
    return outcome.status
