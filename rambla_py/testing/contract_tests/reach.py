"""Contract tests: reaching the server, or failing to."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from typing import Any

from rambla_py.config import load_config
from rambla_py.errors import ExpiredError
from rambla_py.handler import State
from rambla_py.runtime.supervision.plan import make_handler
from rambla_py.testing.contract_case import HandlerCase
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.flags import only_if
from rambla_py.testing.harness import CHANNEL, SERVICE, STOP_S, TIMEOUT_S, until
from rambla_py.testing.ports import HOST, free_port

__all__ = ["ReachTests"]


class ReachTests(HandlerCase):
    """Of a server that runs, one that does not, and one that never answers."""

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
        """Messages that wait for an unreachable server are dropped at the stop, which returns in time."""
        with self.trial(self.unreachable()) as trial:
            receipt = trial.app.publish_many(CHANNEL, self.payloads(10))
            assert until(lambda: trial.reconnects() > 0), f"{trial.status()}"
            assert trial.stop(timeout_s=0.2) < STOP_S
            outcomes = receipt.outcomes(timeout_s=TIMEOUT_S)
            assert Counter(outcome.status for outcome in outcomes) == {"dropped": 10}

    @only_if("has_server")
    def test_ping_says_that_a_server_is_unreachable(self) -> None:
        """A ping of an address without a server returns the error, and raises nothing."""
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
        """A ping returns in time, whatever the server does."""
        with FaultProxy(HOST, free_port()) as proxy:
            proxy.black_hole()
            ping = self.trial(self.at(*proxy.address)).app.ping(CHANNEL, timeout_s=0.3)[0]
            assert not ping.ok
            assert ping.took_s < STOP_S


async def _awaited(answer: Any) -> Any:
    return await answer
