"""Tests of the redis handler against real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis_worker import tls_table_of, worker
from waiting import wait_until

from rambla_py.errors import (
    PayloadTooLargeError,
    PermanentError,
    SerializationError,
)
from rambla_py.handler import Secret
from rambla_py.handlers.redis import RedisHandler
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.servers import RedisServer, Server, TlsFiles

Proxies = Callable[[Server], FaultProxy]


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as made:
        yield made


# -- the six commands ---------------------------------------------------------------------------------------


def test_set(redis_server: RedisServer, client: redis.Redis, unique_name: str):
    """Each key of the mapping is set."""
    one, two = f"{unique_name}-1", f"{unique_name}-2"
    with worker(redis_server) as w:
        assert w.publish([{one: "a"}, {one: "b", two: {"n": 1}}]) == ["OK", "OK"]
    assert client.mget(one, two) == ["b", '{"n":1}']


def test_publish(redis_server: RedisServer, client: redis.Redis, unique_name: str):
    """Subscribers of the topic are given the payload, and the result counts them."""
    with client.pubsub() as subscriber, worker(redis_server, command="publish", topic=unique_name) as w:
        subscriber.subscribe(unique_name)
        subscriber.get_message(timeout=5)
        assert w.publish([{"id": 1}]) == [1]
        assert subscriber.get_message(timeout=5)["data"] == '{"id":1}'


@pytest.mark.parametrize(("command", "order"), [("rpush", ["a", "b"]), ("lpush", ["b", "a"])])
def test_push(
    command: str, order: list[str], redis_server: RedisServer, client: redis.Redis, unique_name: str
):
    """A push adds at its end of the list; the result is the list's length."""
    with worker(redis_server, command=command, list=unique_name) as w:
        assert w.publish(["a", "b"]) == [1, 2]
    assert client.lrange(unique_name, 0, -1) == order


def test_xadd(redis_server: RedisServer, client: redis.Redis, stream_name: str):
    """An entry carries the message's id and the payload; the result is the entry's id."""
    with worker(redis_server, command="xadd", stream=stream_name) as w:
        results = w.publish([b"x", {"n": 1}])
    assert client.xrange(stream_name) == [
        (results[0], {"id": "run-0", "payload": "x"}),
        (results[1], {"id": "run-1", "payload": '{"n":1}'}),
    ]


def test_hset(redis_server: RedisServer, client: redis.Redis, unique_name: str):
    """Each key of the mapping is a field; the result counts the new ones."""
    with worker(redis_server, command="hset", hash=unique_name) as w:
        assert w.publish([{"a": 1, "b": "x"}, {"a": 2}]) == [2, 0]
    assert client.hgetall(unique_name) == {"a": "2", "b": "x"}


# -- ttl_s and max_len --------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [1, 3])
def test_ttl_of_set(keys: int, redis_server: RedisServer, client: redis.Redis, unique_name: str):
    """Each key that was set expires by itself."""
    names = [f"{unique_name}-{n}" for n in range(keys)]
    with worker(redis_server, ttl_s=100) as w:
        assert w.publish([dict.fromkeys(names, "v")]) == ["OK"]
    assert client.mget(names) == ["v"] * keys
    assert all(90_000 < client.pttl(name) <= 100_000 for name in names)


@pytest.mark.parametrize(
    ("options", "payload", "result"),
    [
        ({"command": "rpush"}, "x", 1),
        ({"command": "lpush", "max_len": 5}, "x", 1),
        ({"command": "hset"}, {"a": 1, "b": 2}, 2),
        ({"command": "xadd", "max_len": 5}, "x", None),
    ],
)
def test_ttl_of_a_whole_key(
    options: dict[str, Any],
    payload: Any,
    result: Any,
    redis_server: RedisServer,
    client: redis.Redis,
    unique_name: str,
):
    """Lists, hashes and streams expire as a whole."""
    name = {"rpush": "list", "lpush": "list", "hset": "hash", "xadd": "stream"}[options["command"]]
    with worker(redis_server, ttl_s=100, **options, **{name: unique_name}) as w:
        (answer,) = w.publish([payload])
    assert answer == result or (result is None and answer == client.xrange(unique_name)[0][0])
    assert 90_000 < client.pttl(unique_name) <= 100_000


@pytest.mark.parametrize(("command", "kept"), [("rpush", ["c", "d"]), ("lpush", ["d", "c"])])
def test_max_len_of_a_list(
    command: str, kept: list[str], redis_server: RedisServer, client: redis.Redis, unique_name: str
):
    """A list keeps the newest max_len, and the result is the length that it has then."""
    with worker(redis_server, command=command, list=unique_name, max_len=2) as w:
        assert w.publish("abcd") == [1, 2, 2, 2]
    assert client.lrange(unique_name, 0, -1) == kept


def test_max_len_of_a_stream(redis_server: RedisServer, client: redis.Redis, stream_name: str):
    """A stream is trimmed to about max_len, and exactly on request."""
    with worker(redis_server, command="xadd", stream=stream_name, max_len=100) as w:
        w.publish(["x"] * 1000)
    assert 100 <= client.xlen(stream_name) < 300
    with worker(redis_server, command="xadd", stream=stream_name, max_len=10, max_len_exact=True) as w:
        w.publish(["x"] * 20)
    assert client.xlen(stream_name) == 10


# -- errors of one message ----------------------------------------------------------------------------------


def test_poison_among_a_thousand(redis_server: RedisServer, client: redis.Redis, unique_name: str):
    """One message that cannot be written fails alone; its neighbours arrive in order."""
    payloads: list[Any] = [str(n) for n in range(1000)]
    payloads[500] = {"deep": [object()]}
    with worker(redis_server, command="rpush", list=unique_name) as w:
        answers = w.publish(payloads)
    assert isinstance(answers.pop(500), SerializationError)
    assert answers == list(range(1, 1000))
    assert client.lrange(unique_name, 0, -1) == [str(n) for n in range(1000) if n != 500]


def test_payload_with_code_that_raises(redis_server: RedisServer, unique_name: str):
    """What a payload's own code raises is fatal for its message, and the cause of the error."""

    class Mapping(dict):
        def items(self):
            raise ZeroDivisionError

    with worker(redis_server) as w:
        first, second = w.publish([Mapping(a=1), {unique_name: "v"}])
    assert (first.retryable, type(first.__cause__)) == (False, ZeroDivisionError)
    assert second == "OK"


def test_wrong_type(redis_server: RedisServer, client: redis.Redis, unique_name: str):
    """A key that holds another type fails its message for good, with Redis' text, and nothing else."""
    client.set(unique_name, "text")
    with worker(redis_server, command="rpush", list=unique_name) as w:
        (answer,) = w.publish(["x"])
        w.handler.ping(w.connection)
    assert type(answer) is PermanentError
    assert "WRONGTYPE" in str(answer)


def test_a_refused_push_sets_no_expiry(redis_server: RedisServer, client: redis.Redis, unique_name: str):
    """A message is applied whole or not at all: somebody else's key does not begin to expire."""
    client.set(unique_name, "text")
    with worker(redis_server, command="rpush", list=unique_name, ttl_s=100) as w:
        (answer,) = w.publish(["x"])
    assert type(answer) is PermanentError
    assert client.ttl(unique_name) == -1


def test_too_large(redis_server: RedisServer):
    """What is over the limit is refused before it is sent."""
    with worker(redis_server, {"max_bulk_bytes": 10}, command="publish") as w:
        first, second = w.publish(["x" * 11, "x" * 10])
    assert type(first) is PayloadTooLargeError
    assert second == 0


# -- much at once -------------------------------------------------------------------------------------------


def test_half_a_gigabyte(redis_server: RedisServer):
    """500 messages of 1 MB go in one batch, without either side waiting for the other."""
    body = b"x" * 1_000_000
    with worker(redis_server, command="publish") as w:
        assert w.publish([body] * 500) == [0] * 500


def test_many_small_messages(redis_server: RedisServer, fault_proxy: Proxies, unique_name: str):
    """A batch of 20,000 through a proxy keeps order and pairs each answer with its message."""
    proxy = fault_proxy(redis_server)
    with worker(proxy, command="rpush", list=unique_name) as w:
        assert w.publish(["x"] * 20_000) == list(range(1, 20_001))


def test_options_of_one_message(redis_server: RedisServer, client: redis.Redis, unique_name: str):
    """Messages of one batch may each have options of their own."""
    names = [f"{unique_name}-{n}" for n in range(3)]
    with worker(redis_server, command="rpush") as w:
        messages = [w.message(n, "x") for n in range(3)]
        for name, message in zip(names, messages, strict=True):
            message.options = RedisHandler.Options(command="rpush", list=name)
        assert w.handler.handle_batch(messages, w.state) == [1, 1, 1]
    assert [client.llen(name) for name in names] == [1, 1, 1]


# -- callable payloads --------------------------------------------------------------------------------------


def test_destination(redis_tls_server: RedisServer, tls_files: TlsFiles, unique_name: str):
    """A callable payload is given a client of redis-py for the same server, user and database; it is kept."""
    settings = {"password": Secret("s3cret"), "tls": tls_table_of(tls_files), "database": 1}
    with worker(redis_tls_server, settings) as w:
        destination = w.handler.destination(w.connection)
        assert w.handler.destination(w.connection) is destination
        w.publish([{unique_name: "v"}])
        assert destination.get(unique_name) == b"v"


def test_destination_is_closed_with_the_connection(redis_server: RedisServer, client: redis.Redis):
    """The client of callable payloads leaves no connection open behind the handler's own."""
    with worker(redis_server) as w:
        destination = w.handler.destination(w.connection)
        number = destination.client_id()
        assert number in [int(found["id"]) for found in client.client_list()]
    wait_until(lambda: number not in [int(found["id"]) for found in client.client_list()])
