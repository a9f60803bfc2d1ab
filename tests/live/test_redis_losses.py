"""Tests of lost connections between the redis handler and real servers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from redis_worker import worker
from waiting import in_background, kinds, wait_until

from rambla_py.errors import (
    ConnectionLostError,
    UnknownOutcomeError,
)
from rambla_py.handlers.redis.encode import pack
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.servers import RedisServer, Server

Proxies = Callable[[Server], FaultProxy]


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as made:
        yield made


def test_a_loss_before_the_write(redis_server: RedisServer, client: redis.Redis, unique_name: str):
    """A connection that ended while idle is noticed before anything is written: no outcome is unknown."""
    with worker(redis_server, command="rpush", list=unique_name) as w:
        redis_server.restart()
        with pytest.raises(ConnectionLostError, match="closed it"):
            w.publish(["x"])
        with pytest.raises(ConnectionLostError):
            w.handler.ping(w.connection)
    assert client.exists(unique_name) == 0


def test_an_exchange_that_was_broken_off(redis_server: RedisServer):
    """Unread replies are never paired with the next batch: the connection counts as lost."""
    with worker(redis_server, command="publish") as w:
        w.connection.send([pack((b"PING",))])
        with pytest.raises(ConnectionLostError, match="not finished"):
            w.publish("x")


def test_a_loss_among_the_answers(redis_server: RedisServer, fault_proxy: Proxies, unique_name: str):
    """What was answered before the loss is a result; the rest has an unknown outcome."""
    proxy = fault_proxy(redis_server)
    with worker(proxy, command="rpush", list=unique_name) as w:
        proxy.cut_after(len(b":1\r\n") * 5 + 1, direction="down")
        answers = w.publish("abcdefgh")
        with pytest.raises(ConnectionLostError):
            w.publish("x")
    assert answers[:5] == [1, 2, 3, 4, 5]
    assert kinds(answers[5:]) == {UnknownOutcomeError}
    assert proxy.cuts == 1


def test_killed_before_any_answer(redis_server: RedisServer, fault_proxy: Proxies, unique_name: str):
    """A server that dies with the batch in its socket leaves every outcome unknown."""
    proxy = fault_proxy(redis_server)
    with worker(proxy, command="rpush", list=unique_name) as w:
        redis_server.pause()
        before = proxy.bytes_up
        thread, answers = in_background(lambda: w.publish("abc"))
        wait_until(lambda: proxy.bytes_up > before)
        # First by hand: kill() lets a paused server go on for a moment, and it would answer.
        os.kill(redis_server.pid or 0, signal.SIGKILL)
        redis_server.kill()
        thread.join(20)
    assert kinds(answers) == {UnknownOutcomeError}
    assert len(answers) == 3


def test_killed_in_the_middle(
    redis_server: RedisServer, client: redis.Redis, fault_proxy: Proxies, unique_name: str
):
    """After SIGKILL in the middle of a batch, what has a result is there, and nothing came out of order."""
    proxy = fault_proxy(redis_server)
    payloads = [f"{n:04}" + "x" * 20_000 for n in range(500)]
    with worker(proxy, command="rpush", list=unique_name) as w:
        proxy.throttle(5_000_000)
        thread, answers = in_background(lambda: w.publish(payloads))
        wait_until(lambda: client.llen(unique_name) >= 50)
        redis_server.kill()
        thread.join(20)
    redis_server.start()
    stored = client.lrange(unique_name, 0, -1)
    answered = [answer for answer in answers if isinstance(answer, int)]
    assert len(answers) == 500
    assert answers[: len(answered)] == list(range(1, len(answered) + 1))
    assert len(answered) < 500
    assert kinds(answers[len(answered) :]) <= {UnknownOutcomeError, ConnectionLostError}
    assert stored == payloads[: len(stored)]
    assert len(stored) >= len(answered)


def test_what_was_not_written_is_not_unknown(redis_server: RedisServer, fault_proxy: Proxies):
    """Messages behind a failed write are known to be unsent, so that they are never reported as unknown."""
    proxy = fault_proxy(redis_server)
    with worker(proxy, command="publish") as w:
        proxy.cut_after(3_000_000)
        answers = w.publish([b"x" * 1_000_000] * 60)
    assert type(answers[-1]) is ConnectionLostError
    assert UnknownOutcomeError in kinds(answers)


def test_what_was_written_in_part_is_not_unknown(redis_server: RedisServer, fault_proxy: Proxies):
    """Half a message does nothing: when nothing was written whole, the loss is one before the write."""
    proxy = fault_proxy(redis_server)
    with worker(proxy, command="publish") as w:
        assert w.publish([b"x" * 9_000_000] * 10) == [0] * 10
        proxy.cut_after(1_000_000)
        with pytest.raises(ConnectionLostError):
            w.publish([b"x" * 60_000_000])
    assert proxy.cuts == 1


def test_a_server_that_stops_answering(redis_server: RedisServer, unique_name: str):
    """Silence is bounded by read_timeout_s; the outcome is unknown, with the reason."""
    with worker(redis_server, {"read_timeout_s": 0.3}, command="rpush", list=unique_name) as w:
        redis_server.pause()
        begun = time.monotonic()
        answers = w.publish("ab")
    assert time.monotonic() - begun < 5
    assert kinds(answers) == {UnknownOutcomeError}
    assert "no answer within 0.3 s" in str(answers[0])


def test_ping_of_a_server_that_stops_answering(redis_server: RedisServer):
    """A ping without an answer is a lost connection."""
    with worker(redis_server, {"read_timeout_s": 0.3}) as w:
        w.handler.ping(w.connection)
        redis_server.pause()
        with pytest.raises(ConnectionLostError):
            w.handler.ping(w.connection)


def test_close_wakes_who_waits(redis_server: RedisServer, fault_proxy: Proxies):
    """Closing from another thread ends a wait for answers at once, with unknown outcomes."""
    proxy = fault_proxy(redis_server)
    with worker(proxy, {"read_timeout_s": 60}, command="publish") as w:
        proxy.black_hole()
        thread, answers = in_background(lambda: w.publish("ab"))
        wait_until(lambda: proxy.swallowed > 0)
        w.close()
        thread.join(10)
        assert not thread.is_alive()
        w.close()
    assert kinds(answers) == {UnknownOutcomeError}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_leaves_the_connection_alone(redis_server: RedisServer, unique_name: str):
    """Closing in a forked child does not close the parent's connection."""
    with worker(redis_server, command="rpush", list=unique_name) as w:
        child = os.fork()
        if not child:
            w.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert w.publish("x") == [1]
