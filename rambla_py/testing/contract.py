"""This module is the contract suite: what every handler promises, as tests to inherit."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import traceback
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from rambla_py.actors.plan import make_handler
from rambla_py.config import declared, json_schema, load_config
from rambla_py.errors import AccessError, ConfigError, ExpiredError, OptionError, SerializationError
from rambla_py.handler import Handler, State
from rambla_py.message import Message
from rambla_py.registry import find_handler, handler_names, register_handler
from rambla_py.testing.contract_case import CANARY, MANY, HandlerCase, Received, comparable, only_if
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.ports import HOST, free_port
from rambla_py.testing.trial import CHANNEL, SERVICE, STOP_S, TIMEOUT_S, numbered, until

__all__ = ["CANARY", "HandlerContract", "Received"]

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


class HandlerContract(HandlerCase):
    """The promises of a handler, tested through a real app. Inherit it, name it ``Test...``, and run pytest.

    Say what the handler is (``handler``), how it is configured (``connection``, ``options``), and how to see
    what arrived (``received``). The flags say what there is to test; all are up, so that nothing is left out
    by forgetting it: put one down where the backend has no such thing, or write the method that it asks for.

    ==================  =========================  ========================================================
    flag                method                     when it is down
    ==================  =========================  ========================================================
    ``stores``          ``received``               nothing can be read back
    ``carries_ids``                                ``Received.id`` is None: the backend has no place for it
    ``serializes``                                 payloads do not become bytes
    ``has_poison``      ``poison``                 no message is refused for what it is
    ``has_server``      ``unreachable``            there is nothing that could be unreachable
    ``has_address``     ``at``                     its servers are not found by host and port
    ``has_login``       ``wrong_password``         there are no credentials
    ``can_cut``         ``cut``, ``cuts``          there is no connection to lose
    ==================  =========================  ========================================================

    Each test has a new instance of the class, and an app of its own; fixtures are taken in an ``autouse``
    fixture of the subclass.

    ::

        class TestAudit(HandlerContract):
            handler = AuditHandler
            has_address = has_login = has_poison = can_cut = False

            def connection(self):
                return {"host": "localhost"}

            def unreachable(self):
                return {"host": "nowhere.invalid"}

            def received(self):
                return [Received(row.body, row.id) for row in audit_client("localhost").rows()]
    """

    # -- delivery -------------------------------------------------------------------------------------

    def test_one_message_is_delivered(self) -> None:
        """One message ends as ok at its first attempt."""
        with self.trial() as trial:
            outcome = trial.publish(self.payload(1))
            assert (outcome.status, outcome.attempts, outcome.error) == ("ok", 1, None)

    @only_if("stores")
    def test_a_delivered_message_has_arrived(self) -> None:
        """What ended as ok stands at the receiver, once, with the payload and the id it was given."""
        with self.trial() as trial:
            trial.publish(Message(self.payload(1), id="the-id"))
            self.check_arrivals([(self.payload(1), "the-id")])

    def test_the_result_is_the_handlers(self) -> None:
        """``result()`` gives what the handler returned, and the outcome holds the same."""
        with self.trial() as trial:
            receipt = trial.app.publish(CHANNEL, self.payload(1))
            result = receipt.result(timeout_s=TIMEOUT_S)
            assert self.is_result(result), f"is_result() does not know {result!r}"
            assert receipt.outcomes()[0].result == result

    def test_a_thousand_messages_have_an_outcome_each_in_order(self) -> None:
        """``publish_many`` gives one outcome for each message, in the order in which they were handed in."""
        with self.trial() as trial:
            outcomes = trial.publish_many(numbered(self.payloads(), "m"))
            assert Counter(outcome.status for outcome in outcomes) == {"ok": MANY}
            assert [outcome.message_id for outcome in outcomes] == [f"m-{at}" for at in range(MANY)]

    @only_if("stores")
    def test_a_thousand_messages_arrive_once(self) -> None:
        """Without faults nothing is lost and nothing comes twice."""
        with self.trial() as trial:
            trial.publish_many(numbered(self.payloads(), "m"))
            self.check_arrivals([(self.payload(at), f"m-{at}") for at in range(MANY)])

    def test_messages_published_one_by_one_are_delivered(self) -> None:
        """A thousand calls of ``publish`` end as ok, each with its own receipt."""
        with self.trial() as trial:
            receipts = [trial.app.publish(CHANNEL, payload) for payload in self.payloads()]
            outcomes = [receipt.outcomes(timeout_s=TIMEOUT_S)[0] for receipt in receipts]
            assert Counter(outcome.status for outcome in outcomes) == {"ok": MANY}
            assert len({outcome.message_id for outcome in outcomes}) == MANY

    def test_two_workers_share_the_messages(self) -> None:
        """Two workers, each on a connection of its own, deliver each message once."""
        with self.trial(count=2, lazy=False, batch_size=20) as trial:
            assert until(lambda: trial.status().workers == ["up", "up"])
            outcomes = trial.publish_many(numbered(self.payloads(), "m"))
            assert Counter(outcome.status for outcome in outcomes) == {"ok": MANY}
            if self.stores:
                self.check_arrivals([(self.payload(at), f"m-{at}") for at in range(MANY)])

    def test_keyed_messages_are_delivered(self) -> None:
        """Messages that share keys end as ok, one after the other within a key."""
        with self.trial() as trial:
            messages = [Message(self.payload(at), id=f"m-{at}", key=f"k-{at % 7}") for at in range(50)]
            outcomes = trial.publish_many(messages)
            assert Counter(outcome.status for outcome in outcomes) == {"ok": 50}

    # -- payloads -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", _PAYLOADS)
    def test_a_payload_arrives_unchanged_or_is_fatal_at_once(self, kind: str) -> None:
        """Each kind of payload arrives as it is; one that the backend cannot take is refused, not mangled."""
        payload = _PAYLOADS[kind]
        with self.trial() as trial:
            outcome = trial.publish(Message(payload, id="the-id"))
            if not self.takes(payload):
                assert (outcome.status, outcome.attempts) == ("fatal", 1), f"{outcome!r}"
                assert trial.publish(self.payload(1)).status == "ok"
                return
            assert outcome.status == "ok", f"{outcome!r}"
            if self.stores:
                self.check_arrivals([(payload, "the-id")])

    @only_if("serializes")
    def test_an_unserializable_payload_is_fatal_at_once(self) -> None:
        """No retry is spent on what cannot be serialized, and the error names the path to the value."""
        payload, path = self.unserializable()
        with self.trial() as trial:
            outcome = trial.publish(payload)
            assert (outcome.status, outcome.attempts) == ("fatal", 1), f"{outcome!r}"
            assert isinstance(outcome.error, SerializationError)
            assert outcome.error.path == path

    @only_if("serializes")
    def test_an_unserializable_payload_harms_no_other(self) -> None:
        """In a batch, only the message that cannot be serialized is not ok."""
        with self.trial() as trial:
            self.check_poison(trial, self.unserializable()[0])

    @only_if("has_poison")
    def test_one_poison_message_in_a_thousand_fails_alone(self) -> None:
        """Of a thousand messages, exactly the one that the backend refuses is not ok."""
        with self.trial() as trial:
            self.check_poison(trial, self.poison())

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
        """What a callable raises is its own failure: the messages around it are delivered."""

        def payload(**given: Any) -> None:
            raise ValueError("the callable's own")

        with self.trial() as trial:
            self.check_poison(trial, payload)

    # -- options and tables ---------------------------------------------------------------------------

    def test_an_unknown_option_is_refused_by_name(self) -> None:
        """A misspelled option is refused before anything is accepted, with the nearest name."""
        with self.trial() as trial:
            if self.handler_class().Options is dict:
                assert trial.publish(self.payload(1), retriess=1).status == "ok"
                return
            for name in ["retries", *declared(self.handler_class())]:
                with pytest.raises(OptionError) as caught:
                    trial.app.publish(CHANNEL, self.payload(1), **{f"{name}{name[-1]}": 1})
                self._check_words(caught.value, repr(f"{name}{name[-1]}"), f"did you mean {name!r}")
            assert trial.audit().accepted == 0

    def test_an_option_of_the_wrong_type_is_refused(self) -> None:
        """A value that an option does not take is refused before anything is accepted."""
        with self.trial() as trial:
            wrong = object()
            for name in ["retries", *_choosy(self.handler_class())]:
                with pytest.raises(OptionError) as caught:
                    trial.app.publish(CHANNEL, self.payload(1), **{name: wrong})
                self._check_words(caught.value, repr(name))
            assert trial.audit().accepted == 0

    def test_a_misspelled_key_of_the_tables_is_refused(self) -> None:
        """A configuration with an unknown key is refused, with the path to it."""
        wrong = self.table({**self.connection(), "no_such_key": 1}, {"no_such_setting": 1})
        with pytest.raises(ConfigError) as caught:
            load_config(wrong)
        paths = {problem.path for problem in caught.value.problems}
        assert f"{SERVICE}.channels.{CHANNEL}.no_such_setting" in paths
        if self.handler_class().Connection not in (dict, None, Any):
            assert f"{SERVICE}.connections.main.no_such_key" in paths

    def test_the_tables_have_a_schema(self) -> None:
        """``rambla schema`` knows the handler's own connection and options."""
        kind = self.handler_class()
        name = next((name for name in handler_names() if _is_named(name, kind)), f"contract_{kind.__name__}")
        register_handler(name, kind)
        schema = json_schema()
        assert json.dumps(schema)
        assert set(declared(kind)) <= set(schema["$defs"][f"{name}.options"].get("properties", {}))
        assert schema["$defs"][f"{name}.connection"]["type"] == "object"

    def test_the_guarantee_is_stated(self) -> None:
        """The class says what it guarantees, in its docstring and in the plan."""
        kind = self.handler_class()
        assert kind.guarantee != Handler.guarantee, "say what is guaranteed: guarantee = '...'"
        assert kind.__doc__, "the class has no docstring"
        assert kind.__doc__ != Handler.__doc__, "the docstring is that of Handler"
        assert kind.guarantee in str(self.trial().app.plan)

    # -- connections ----------------------------------------------------------------------------------

    def test_ping_finds_the_server(self) -> None:
        """A ping of the connection that works is ok."""
        with self.trial() as trial:
            ping = trial.ping()
            assert ping.ok, f"{ping.error}"

    def test_closing_twice_does_no_harm(self) -> None:
        """``close`` may be called again, on what is closed already."""
        config = load_config(self.table(self.connection(), {})).services[SERVICE].channels[CHANNEL]
        handler = make_handler(config)
        with asyncio.Runner() as loop:

            def resolved(answer: Any) -> Any:
                return loop.run(_awaited(answer)) if inspect.isawaitable(answer) else answer

            connection = resolved(handler.connect())
            resolved(handler.ping(State(connection, CHANNEL, SERVICE).connection))
            resolved(handler.close(connection))
            resolved(handler.close(connection))

    def test_a_stop_while_idle_is_quick(self) -> None:
        """An app that has delivered everything stops at once."""
        with self.trial() as trial:
            trial.publish(self.payload(1))
            assert trial.stop(timeout_s=STOP_S) < STOP_S

    @only_if("has_server")
    def test_messages_to_an_unreachable_server_wait_and_expire(self) -> None:
        """Nothing is attempted, lost or retried while there is no server: messages wait until they expire."""
        with self.trial(self.unreachable(), options={"expires_s": 0.3}) as trial:
            outcomes = trial.publish_many(self.payloads(10))
            assert Counter(outcome.status for outcome in outcomes) == {"expired": 10}
            assert {outcome.attempts for outcome in outcomes} == {0}
            assert {type(outcome.error) for outcome in outcomes} == {ExpiredError}
            assert until(lambda: trial.reconnects() > 0), f"{trial.status()}"
            assert trial.status().last_error is not None

    @only_if("has_server")
    def test_an_app_without_its_server_stops_in_time(self) -> None:
        """Messages that wait for an unreachable server are dropped at the stop, which keeps its time."""
        with self.trial(self.unreachable()) as trial:
            receipt = trial.app.publish_many(CHANNEL, self.payloads(10))
            assert until(lambda: trial.reconnects() > 0), f"{trial.status()}"
            assert trial.stop(timeout_s=0.2) < STOP_S
            outcomes = receipt.outcomes(timeout_s=TIMEOUT_S)
            assert Counter(outcome.status for outcome in outcomes) == {"dropped": 10}

    @only_if("has_server")
    def test_ping_says_that_a_server_is_unreachable(self) -> None:
        """A ping of where no server is says so, with the error, and raises nothing."""
        with self.trial(self.unreachable()) as trial:
            ping = trial.ping()
            assert not ping.ok
            assert ping.error

    @only_if("has_address")
    def test_a_server_that_never_answers_holds_nothing_up(self) -> None:
        """A server that takes connections and is silent: messages expire, and the app stops in time."""
        with FaultProxy(HOST, free_port()) as proxy:
            proxy.black_hole()
            with self.trial(self.at(*proxy.address), options={"expires_s": 0.3}) as trial:
                outcomes = trial.publish_many(self.payloads(10))
                assert Counter(outcome.status for outcome in outcomes) == {"expired": 10}
                assert trial.stop(timeout_s=0.2) < STOP_S
            assert proxy.connections >= 1

    @only_if("has_address")
    def test_a_ping_of_a_server_that_never_answers_ends(self) -> None:
        """A ping keeps its time, whatever the server does."""
        with FaultProxy(HOST, free_port()) as proxy:
            proxy.black_hole()
            ping = self.trial(self.at(*proxy.address)).app.ping(CHANNEL, timeout_s=0.3)[0]
            assert not ping.ok
            assert ping.took_s < STOP_S

    @only_if("has_login")
    def test_a_wrong_password_is_told_once(self) -> None:
        """The channel is ``down`` and the log has one error, however often it tries; messages wait."""
        with self.trial(self.wrong_password()) as trial:
            receipt = trial.app.publish(CHANNEL, self.payload(1))
            assert until(lambda: trial.status().state == "down"), f"{trial.status()}"
            assert until(lambda: trial.reconnects() >= 3), f"{trial.status()}"
            errors = trial.logged(logging.ERROR)
            assert len(errors) == 1, f"{errors}"
            assert not receipt.done()
            trial.stop(timeout_s=0.1)
            assert receipt.outcomes(timeout_s=TIMEOUT_S)[0].status == "dropped"

    @only_if("has_login")
    def test_ping_says_that_the_password_is_wrong(self) -> None:
        """A ping with a wrong password says that access was refused."""
        with self.trial(self.wrong_password()) as trial:
            ping = trial.ping()
            assert not ping.ok
            assert isinstance(ping.exception, AccessError), f"{ping!r}"

    @only_if("has_login")
    def test_a_password_never_shows(self, capfd: pytest.CaptureFixture[str]) -> None:
        """The password is in no log, error, cause, status, plan, repr, or on the terminal."""
        with self.trial(self.wrong_password(), options={"expires_s": 0.3}) as trial:
            trial.publish(self.payload(1))
            trial.ping()
            assert until(lambda: trial.status().state == "down"), f"{trial.status()}"
            said = [*trial.everything_said(), *self._refusal(), *capfd.readouterr()]
            assert not [text for text in said if CANARY in text]

    # -- a connection that is lost --------------------------------------------------------------------

    @only_if("can_cut")
    def test_a_loss_in_mid_batch_loses_no_message(self) -> None:
        """After a cut each message has one outcome, what is ok has arrived, and duplicates share the id."""
        with self.trial() as trial:
            outcomes, ends = self.publish_over_a_cut(trial)
            assert Counter(outcome.status for outcome in outcomes) == {"ok": MANY}
            assert set(ends.values()) == {1}
            assert len(ends) == MANY
            if self.stores:
                self.check_nothing_missing(outcomes)

    @only_if("can_cut")
    def test_a_loss_is_reported_where_unknown_is_not_retried(self) -> None:
        """With ``on_unknown = "report"`` nothing comes twice, and what is ok has arrived."""
        with self.trial(on_unknown="report") as trial:
            outcomes, ends = self.publish_over_a_cut(trial)
            assert {outcome.status for outcome in outcomes} <= {"ok", "unknown"}
            assert set(ends.values()) == {1}
            assert len(ends) == MANY
            if self.stores:
                self.check_nothing_missing([outcome for outcome in outcomes if outcome.status == "ok"])
                ways = Counter(comparable(arrival.payload) for arrival in self.received())
                assert max(ways.values()) == 1, f"came twice: {[way for way in ways if ways[way] > 1][:3]}"

    @only_if("can_cut")
    def test_messages_flow_again_after_a_loss(self) -> None:
        """Once the connection is back, messages are delivered at their first attempt."""
        with self.trial() as trial:
            self.publish_over_a_cut(trial)
            outcome = trial.publish(self.payload(MANY + 1))
            assert (outcome.status, outcome.attempts) == ("ok", 1)
            assert trial.status().state == "up"

    # -- what some of the tests share ------------------------------------------------------------------

    def _check_words(self, error: OptionError, *words: str) -> None:
        """Check that an error names service, channel and option."""
        for word in (SERVICE, CHANNEL, *words):
            assert word in str(error), f"{word} is missing in: {error}"

    def _refusal(self) -> Sequence[str]:
        """Return what is said of a table that is wrong beside its password."""
        with pytest.raises(ConfigError) as caught:
            load_config(self.table(self.wrong_password(), {"no_such_setting": 1}))
        return [str(caught.value), repr(caught.value), "".join(traceback.format_exception(caught.value))]


async def _awaited(answer: Any) -> Any:
    return await answer


def _is_named(name: str, kind: type[Handler]) -> bool:
    try:
        return find_handler(name) is kind
    except Exception:  # a handler of another package that cannot be imported is not this one
        return False


def _choosy(kind: type[Handler]) -> list[str]:
    """Return the options that do not take just any value."""
    return [name for name, option in declared(kind).items() if option.per_channel or not _is_any(option.type)]


def _is_any(kind: Any) -> bool:
    return Any in (kind, getattr(kind, "__origin__", None))  # as Annotated[Any, ...] has it
