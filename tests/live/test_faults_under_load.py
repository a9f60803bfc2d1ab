"""Brokers that are killed, stopped, reset, swallowed up or alarmed while messages flow: nothing confirmed is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika
import pytest
import redis
from load import WAIT_S, Load, until

from rambla_py import Rambla
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.processes import deadline
from rambla_py.testing.servers import RabbitMqServer, Server

Proxies = Callable[[Server], FaultProxy]

CHANNEL = {
    "count": 2,
    "attempt_timeout_s": 1.0,
    "publish_timeout_s": WAIT_S,  # a fault may last until the mailbox is full: the load waits
    "options": {"retries": 50, "backoff": {"initial_s": 0.02, "max_s": 0.2}, "expires_s": 300},
}


class Backend:
    """One kind of broker: its table for an app, and what a consumer finds in it."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name = server, name

    def app(self, host: str, port: int) -> Rambla:
        raise NotImplementedError

    def found(self) -> list[str]:
        raise NotImplementedError


class Amqp(Backend):
    def app(self, host: str, port: int, *, attempt_timeout_s: float = 1.0, **options: Any) -> Rambla:
        declare = {"queue": {"name": self.name, "arguments": options.pop("arguments", {})}}
        table = {**CHANNEL["options"], "routing_key": self.name, "declare": declare, **options}  # type: ignore[dict-item]
        connection = {"host": host, "port": port, "connect_timeout_s": 2.0}
        return Rambla(
            {
                "amqp": {
                    "connections": {"here": connection},
                    "channels": {
                        "orders": {**CHANNEL, "attempt_timeout_s": attempt_timeout_s, "options": table}
                    },
                }
            }
        )

    def found(self) -> list[str]:
        connection = pika.BlockingConnection(pika.URLParameters(self.server.url))
        channel, taken, empty = connection.channel(), list[str](), False
        for method, _, body in channel.consume(self.name, auto_ack=True, inactivity_timeout=0.1):
            if method is not None:
                taken.append(body.decode())
            elif empty:
                break
            else:  # what was delivered before this answer is taken in the next turns
                empty = channel.queue_declare(self.name, passive=True).method.message_count == 0
        connection.close()
        return taken


class Redis(Backend):
    def app(self, host: str, port: int, **options: Any) -> Rambla:
        table = {**CHANNEL["options"], "command": "xadd", "stream": self.name, **options}  # type: ignore[dict-item]
        connection = {"host": host, "port": port, "connect_timeout_s": 2.0, "read_timeout_s": 1.0}
        return Rambla(
            {
                "redis": {
                    "connections": {"here": connection},
                    "channels": {"orders": {**CHANNEL, "options": table}},
                }
            }
        )

    def found(self) -> list[str]:
        with redis.Redis.from_url(self.server.url, decode_responses=True) as client:
            return [fields["payload"] for _, fields in client.xrange(self.name)]


@pytest.fixture(params=[Amqp, Redis], ids=["amqp", "redis"])
def backend(request: pytest.FixtureRequest, unique_name: str) -> Backend:
    """A backend whose server keeps what it confirmed, also when it is killed."""
    if request.param is Amqp:
        return Amqp(request.getfixturevalue("rabbitmq"), unique_name)
    return Redis(request.getfixturevalue("redis_server"), unique_name)


def status(app: Rambla) -> Any:
    return next(iter(app.status().values()))


def losses(app: Rambla) -> int:
    return sum(
        count for reason, count in status(app).reasons.items() if reason.startswith(("lost:", "attempt:"))
    )


def killed(app: Rambla, backend: Backend, proxy: FaultProxy) -> None:
    before = backend.server.pid
    backend.server.kill()
    until(lambda: "up" not in status(app).workers)
    backend.server.start()
    assert backend.server.pid != before


def stopped_and_continued(app: Rambla, backend: Backend, proxy: FaultProxy) -> None:
    before = losses(app)
    backend.server.pause()
    until(lambda: losses(app) > before)
    backend.server.resume()


def reset(app: Rambla, backend: Backend, proxy: FaultProxy) -> None:
    for _ in range(3):
        until(lambda: proxy.open >= 2 and status(app).in_flight)  # an isolated worker has a third one
        before = proxy.resets
        proxy.reset()
        assert proxy.resets > before


def swallowed(app: Rambla, backend: Backend, proxy: FaultProxy) -> None:
    before = losses(app)
    proxy.black_hole(True)
    until(lambda: losses(app) > before)
    assert proxy.swallowed > 0
    proxy.black_hole(False)
    proxy.cut()


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "fault", [killed, stopped_and_continued, reset, swallowed], ids=lambda fault: fault.__name__
)
def test_nothing_confirmed_is_missing_after(
    fault: Callable[..., None], backend: Backend, fault_proxy: Proxies
) -> None:
    """Every accepted message has one outcome, in the end ok, and a consumer finds each of them."""
    backend.server.start()
    proxy = fault_proxy(backend.server)
    with backend.app(*proxy.address) as app:
        if isinstance(backend.server, RabbitMqServer):
            # A broker that dies right after it has declared a queue may forget the queue.
            app.publish("orders", "first").result(timeout_s=WAIT_S)
            backend.server.sync()
        with Load(app, "m{}".format) as load:
            fault(app, backend, proxy)
            before = load.done()
            until(lambda: load.done() > before + 50)
        outcomes = load.outcomes()
        audit = next(iter(app.audit().values()))
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert audit.balanced
    assert audit.accepted >= len(outcomes)
    sent = {outcome.payload for outcome in outcomes}
    assert len(sent) == len(outcomes)
    missing = sent - set(backend.found())
    assert not missing


@pytest.mark.timeout(180)
def test_an_alarm_holds_everything_and_loses_nothing(rabbitmq: RabbitMqServer, unique_name: str) -> None:
    """While the broker is out of memory nothing fails: messages wait, and flow once the alarm is over."""
    backend = Amqp(rabbitmq, unique_name)
    with backend.app(rabbitmq.host, rabbitmq.port, attempt_timeout_s=30.0) as app:
        with Load(app, "m{}".format) as load:
            rabbitmq.set_memory_alarm(True)
            until(lambda: status(app).state == "blocked")
            held = status(app).statuses["ok"]
            until(lambda: status(app).queued > 500)
            assert status(app).statuses["ok"] - held <= 2 * 2_000, "it went on in spite of the alarm"
            rabbitmq.set_memory_alarm(False)
            until(lambda: status(app).workers == ["up", "up"])
        outcomes = load.outcomes()
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert {outcome.attempts for outcome in outcomes} == {1}
    assert {outcome.payload for outcome in outcomes} <= set(backend.found())


@pytest.mark.timeout(180)
def test_a_key_keeps_its_order_through_refusals_and_losses(
    rabbitmq: RabbitMqServer, unique_name: str, fault_proxy: Proxies
) -> None:
    """A queue that refuses when it is full and connections that break: each key arrives in its order."""
    backend, proxy = Amqp(rabbitmq, unique_name), fault_proxy(rabbitmq)
    arguments = {"x-max-length": 20, "x-overflow": "reject-publish"}
    found: list[str] = []
    with backend.app(*proxy.address, arguments=arguments) as app:
        receipts = [
            app.publish("orders", f"{key} {number}", key=f"k{key}")
            for number in range(40)
            for key in range(20)
        ]
        for _ in range(3):
            until(lambda: status(app).reasons.get("attempt:RejectedError", 0) > 0)
            proxy.reset()
            found += backend.found()
        for _ in deadline(WAIT_S, poll_s=0.01):
            found += backend.found()
            if all(receipt.done() for receipt in receipts):
                break
        outcomes = [receipt.outcomes(timeout_s=WAIT_S)[0].status for receipt in receipts]
        assert status(app).reasons["attempt:RejectedError"] > 0
    found += backend.found()
    assert proxy.resets >= 3
    assert set(outcomes) == {"ok"}
    for key in range(20):
        numbers = [int(body.split()[1]) for body in found if body.startswith(f"{key} ")]
        assert list(dict.fromkeys(numbers)) == list(range(40))
