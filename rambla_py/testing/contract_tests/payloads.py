"""Contract tests: payloads, those that cannot be serialized included."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from rambla_py.config import load_config
from rambla_py.errors import ConfigError, PayloadTooLargeError, SerializationError
from rambla_py.handler import Handler
from rambla_py.message import Message
from rambla_py.serialization.encoding import encode
from rambla_py.testing.contract_case import MANY, HandlerCase
from rambla_py.testing.flags import only_if
from rambla_py.testing.harness import CHANNEL, SERVICE, Harness

__all__ = ["PayloadTests"]

_PAYLOADS: dict[str, Any] = {
    "mapping": {"id": 42, "lines": [1, 2.5, None, True, "x"]},
    "list": [1, 2, 3],
    "number": 0,
    "none": None,
    "false": False,
    "text": "two\nlines",
    "empty-text": "",
    "unicode": "Grüße, 世界, \U0001f600, \x00",
    "bytes": b"plain bytes",
    "empty-bytes": b"",
    "binary": bytes(range(256)),
    "large": "x" * 1_000_000,
}


class PayloadTests(HandlerCase):
    """Of payloads: what arrives, what is refused, and that it harms no other."""

    @pytest.mark.parametrize("kind", _PAYLOADS)
    def test_a_payload_arrives_unchanged_or_is_fatal_at_once(self, kind: str) -> None:
        """Each kind of payload arrives unchanged, or is refused if the backend cannot take it."""
        payload = _PAYLOADS[kind]
        with self.trial() as trial:
            if not self.takes(payload):
                self.check_refused(trial, Message(payload, id="the-id"))
                assert trial.publish(self.payload(1)).status == "ok"
                return
            outcome = trial.publish(Message(payload, id="the-id"))
            assert outcome.status == "ok", f"{outcome!r}"
            if self.stores:
                self.check_arrivals([(payload, "the-id")])

    @only_if("serializes")
    def test_an_unserializable_payload_is_refused_at_once(self) -> None:
        """``publish`` raises, or the delivery fails without a retry; the error has the value's path."""
        payload, path = self.unserializable()
        with self.trial() as trial:
            error = self.check_refused(trial, payload)
            assert isinstance(error, SerializationError)
            assert error.path == path

    @only_if("serializes")
    def test_an_unserializable_payload_harms_no_other(self) -> None:
        """In a batch, only the message that cannot be serialized is not ok; or the call accepts nothing."""
        with self.trial() as trial:
            self.check_poison(trial, self.unserializable()[0])

    def test_a_reused_payload_arrives_with_the_values_of_each_call(self) -> None:
        """Changes that an application makes after the call have no effect on what arrives."""
        payload = self.payload(0)
        if not isinstance(payload, dict):
            return  # nothing in it can change
        numbers = range(1, 6)
        with self.trial() as trial:
            receipts = []
            for number in numbers:
                payload.clear()
                payload.update(self.payload(number))
                receipts.append(trial.app.publish(CHANNEL, payload, id=f"reused-{number}"))
                payload.clear()
            outcomes = [receipt.outcomes(timeout_s=trial.patience_s)[0] for receipt in receipts]
        assert {outcome.status for outcome in outcomes} == {"ok"}, f"{outcomes!r}"
        if self.stores:
            self.check_arrivals([(self.payload(number), f"reused-{number}") for number in numbers])

    def test_the_captured_payload_is_never_changed(self) -> None:
        """Another target of the same message still has it as it was, once this one has delivered it."""
        seen: list[Any] = []

        class Witness(Handler):
            def handle_publish(self, message: Any, options: Any, state: Any) -> None:
                seen.append(message.payload)

        witness = {"handler": Witness, "channels": {CHANNEL: {}}}
        with Harness({**self.table(self.connection(), {}), "witness": witness}) as trial:
            for number in range(5):
                receipt = trial.app.publish(CHANNEL, self.payload(number))
                assert {one.status for one in receipt.outcomes(timeout_s=trial.patience_s)} == {"ok"}
        assert seen == self.payloads(5), "a handler changed what its message shares with other targets"

    @only_if("carries_events")
    def test_an_event_arrives_whole(self) -> None:
        """With ``serializer = "cloudevents"`` what arrives is a CloudEvent, with the message's id."""
        with self.trial(options={"serializer": "cloudevents", "event_type": "paid"}) as trial:
            assert trial.publish(Message(self.payload(1), id="the-id")).status == "ok"
        (arrived,) = self.received()
        event = msgspec.json.decode(arrived.payload)
        attributes = [event.get(name) for name in ("specversion", "id", "type")]
        assert attributes == ["1.0", "the-id", "paid"]
        assert event["data"] == msgspec.json.decode(encode(self.payload(1)))

    @only_if("carries_events")
    def test_the_attributes_of_an_event_arrive_as_headers_or_are_refused(self) -> None:
        """``"cloudevents-binary"`` is for backends with headers; the others refuse the configuration."""
        binary = {"serializer": "cloudevents-binary", "event_type": "paid"}
        prefix = self._event_prefix()
        if prefix is None:
            with pytest.raises(ConfigError):
                self.trial(options=binary)
            return
        with self.trial(options=binary) as trial:
            assert trial.publish(Message(self.payload(1), id="the-id")).status == "ok"
        (arrived,) = self.received()
        assert arrived.payload == self.arrives_as(self.payload(1))
        assert arrived.headers is not None, "received() shows no headers: give Received(payload, id, headers)"
        attributes = {name: str(arrived.headers[f"{prefix}{name}"]) for name in ("specversion", "id", "type")}
        assert attributes == {"specversion": "1.0", "id": "the-id", "type": "paid"}

    @only_if("has_poison")
    def test_one_poison_message_in_a_thousand_fails_alone(self) -> None:
        """Of a thousand messages, exactly the one that the backend refuses is not ok."""
        with self.trial() as trial:
            self.check_poison(trial, self.poison(), MANY)

    @only_if("has_limit")
    def test_a_payload_over_the_limit_is_fatal_alone(self) -> None:
        """Of many messages, only the one over the server's limit fails, at once, with both sizes."""
        connection, payload = self.too_large()
        with self.trial(connection) as trial:
            self.check_poison(trial, payload)
            outcome = trial.publish(payload)
            assert (outcome.status, outcome.attempts) == ("fatal", 1), f"{outcome!r}"
            error = outcome.error
            assert isinstance(error, PayloadTooLargeError), f"{error!r}"
            assert error.size > error.limit > 0
            assert str(error.limit) in str(error)

    def test_a_callable_is_given_source_destination_and_options(self) -> None:
        """A callable payload is called once, with the handler class, its live connection and its options."""
        calls: list[dict[str, Any]] = []

        def payload(**given: Any) -> str:
            calls.append(given)
            return "its result"

        kind = self.handler_class()
        with self.trial() as trial:
            outcome = trial.publish(payload)
            assert (outcome.status, outcome.result) == ("ok", "its result"), f"{outcome!r}"
        assert len(calls) == 1
        assert set(calls[0]) == {"source", "destination", "options"}
        assert calls[0]["source"] is kind
        assert (calls[0]["destination"] is None) == (kind.connect is Handler.connect)
        assert kind.Options is None or isinstance(calls[0]["options"], kind.Options)

    def test_a_callable_that_raises_fails_alone(self) -> None:
        """An exception of a callable fails only its own message."""

        def payload(**given: Any) -> None:
            raise ValueError("the callable's own")

        with self.trial() as trial:
            self.check_poison(trial, payload)

    def _event_prefix(self) -> str | None:
        channel = load_config(self.table(self.connection(), {})).services[SERVICE].channels[CHANNEL]
        return channel.handler.event_prefix(channel.options)
