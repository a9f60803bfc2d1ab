"""This module tests the redis handler against real servers."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import redis
from redis_worker import Worker, refusal, worker
from waiting import in_background, kinds, wait_until

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    SerializationError,
    UnknownOutcomeError,
)
from rambla_py.handler import Secret
from rambla_py.handlers.redis import RedisHandler
from rambla_py.handlers.redis.commands import pack
from rambla_py.handlers.redis.settings import RedisTls
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.server_process import free_port
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
    """A stream is trimmed to about max_len."""
    with worker(redis_server, command="xadd", stream=stream_name, max_len=100) as w:
        w.publish(["x"] * 1000)
    assert 100 <= client.xlen(stream_name) < 300


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
    """What a payload's own code raises, be it no error of ours, is the failure of its message."""

    class Mapping(dict):
        def items(self):
            raise ZeroDivisionError

    with worker(redis_server) as w:
        first, second = w.publish([Mapping(a=1), {unique_name: "v"}])
    assert isinstance(first, ZeroDivisionError)
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


def test_out_of_memory(redis_server: RedisServer, client: redis.Redis, unique_name: str):
    """A server without memory rejects for now: the message may be retried, and the connection stays."""
    with worker(redis_server, command="rpush", list=unique_name) as w:
        client.config_set("maxmemory", 1)
        try:
            (refused,) = w.publish(["x"])
        finally:
            client.config_set("maxmemory", 0)
        assert w.publish(["y"]) == [1]
    assert type(refused) is RejectedError
    assert refused.retryable


def test_no_permission(redis_server: RedisServer, client: redis.Redis, unique_name: str):
    """A user who may write one key only, and not even PING, connects; other keys fail for good."""
    client.acl_setuser(
        unique_name, enabled=True, passwords=["+pw"], keys=["allowed"], commands=["+rpush", "+select"]
    )
    settings = {"username": unique_name, "password": Secret("pw"), "database": 1}
    try:
        with worker(redis_server, settings, command="rpush", list="allowed") as w:
            assert w.publish(["x"]) == [1]
        with worker(redis_server, settings, command="rpush", list="other") as w:
            (answer,) = w.publish(["x"])
    finally:
        client.acl_deluser(unique_name)
    assert type(answer) is PermanentError
    assert "NOPERM" in str(answer)


def test_too_large(redis_server: RedisServer):
    """What is over the limit is refused before it is sent."""
    with worker(redis_server, {"max_bulk_bytes": 10}, command="publish") as w:
        first, second = w.publish(["x" * 11, "x" * 10])
    assert type(first) is PayloadTooLargeError
    assert second == 0


def test_a_replica_counts_as_a_loss():
    """A server that became a replica takes no writes: another connection is to be tried."""
    with RedisServer() as server, worker(server, command="rpush") as w:
        with redis.Redis.from_url(server.url) as admin:
            admin.replicaof("127.0.0.1", free_port())
        with pytest.raises(ConnectionLostError, match="READONLY"):
            w.publish(["x", "y"])
        with pytest.raises(ConnectionLostError, match="READONLY"):
            w.publish(["x", "y"])


# -- connecting ---------------------------------------------------------------------------------------------


def test_a_url(redis_server: RedisServer, client: redis.Redis, unique_name: str):
    """A URL with a database connects to that database."""
    url = Secret(f"redis://{redis_server.host}:{redis_server.port}/2")
    made = Worker({"url": url}, {})
    with closing(made), redis.Redis(port=redis_server.port, db=2) as second:
        assert made.publish([{unique_name: "v"}]) == ["OK"]
        assert second.get(unique_name) == b"v"
    assert client.get(unique_name) is None


def test_a_unix_socket():
    """A unix URL connects through the socket's file."""
    with RedisServer(config=["unixsocket redis.sock"]) as server:
        made = Worker({"url": Secret(f"unix://{server.folder}/redis.sock")}, {"command": "rpush"})
        with closing(made):
            assert made.publish(["x"]) == [1]


def test_unreachable():
    """Where nothing listens, the error names the address and is a plain loss."""
    port = free_port()
    error = refusal(host="127.0.0.1", port=port)
    assert type(error) is ConnectionLostError
    assert f"127.0.0.1:{port}" in str(error)


def test_wrong_password(redis_tls_server: RedisServer, tls_files: TlsFiles):
    """A wrong password is an AccessError, and shows nowhere in it."""
    error = refusal(
        host="127.0.0.1",
        port=redis_tls_server.port,
        password=Secret("canary"),
        tls=_tls(tls_files),
    )
    assert type(error) is AccessError
    assert "WRONGPASS" in str(error)
    assert "canary" not in f"{error!r}{error.__cause__!r}{error.__context__!r}"


def test_missing_password(redis_tls_server: RedisServer, tls_files: TlsFiles):
    """No password where one is needed is an AccessError."""
    error = refusal(host="127.0.0.1", port=redis_tls_server.port, tls=_tls(tls_files))
    assert type(error) is AccessError
    assert "NOAUTH" in str(error)


def test_a_database_that_is_not_there(redis_server: RedisServer):
    """A database number that the server does not have refuses the connection."""
    error = refusal(host=redis_server.host, port=redis_server.port, database=99)
    assert "DB index" in str(error)


def test_tls(redis_tls_server: RedisServer, tls_files: TlsFiles, unique_name: str):
    """Messages go over TLS when the authority is known, in batches of several records."""
    url = Secret(f"rediss://:s3cret@localhost:{redis_tls_server.port}/0")
    made = Worker({"url": url, "tls": _tls(tls_files)}, {"command": "rpush", "list": unique_name})
    with closing(made):
        assert made.publish(["x" * 1000] * 300) == list(range(1, 301))
        assert made.publish(["y"]) == [301]


def test_tls_with_an_unknown_authority(redis_tls_server: RedisServer):
    """A certificate of an authority that is not trusted is an AccessError."""
    error = refusal(host="127.0.0.1", port=redis_tls_server.port, password=Secret("s3cret"), tls=True)
    assert type(error) is AccessError
    assert "certificate" in str(error)


def test_tls_with_the_wrong_name(redis_tls_server: RedisServer, tls_files: TlsFiles):
    """A certificate for another name is an AccessError."""
    error = refusal(
        host="127.0.0.1", port=redis_tls_server.port, tls=_tls(tls_files, server_name="elsewhere.invalid")
    )
    assert type(error) is AccessError
    assert "elsewhere.invalid" in str(error)


def test_tls_without_verification(redis_tls_server: RedisServer):
    """verify = false takes any certificate."""
    settings = {"password": Secret("s3cret"), "tls": _tls(None, verify=False)}
    with worker(redis_tls_server, settings, command="publish") as w:
        assert w.publish(["x"]) == [0]


def test_tls_with_a_file_that_is_not_there():
    """A missing authority file is an AccessError that says so."""
    error = refusal(host="127.0.0.1", tls=_tls(None, ca_file="/nowhere/ca.pem"))
    assert type(error) is AccessError
    assert "tls" in str(error)


def test_tls_with_a_client_certificate_that_is_wanted(tls_files: TlsFiles):
    """A server that wants a client's certificate refuses those without, and takes those with one."""
    plain = _tls(tls_files)
    owner = _tls(tls_files, cert_file=str(tls_files.certificate), key_file=str(tls_files.key))
    with RedisServer(tls=tls_files) as server:
        where = {"host": server.host, "port": server.port}
        with worker(server, {"tls": owner}, command="publish") as w:
            w.handler.destination(w.connection).config_set("tls-auth-clients", "yes")
        error = refusal(**where, tls=plain)
        with worker(server, {"tls": owner}, command="publish") as w:
            assert w.publish(["x"]) == [0]
    assert type(error) is AccessError


def _tls(files: TlsFiles | None, **settings: Any) -> Any:
    from_files = {} if files is None else {"ca_file": str(files.authority)}
    return RedisTls(**from_files, **settings)


def test_something_else_than_redis():
    """A server of another protocol is refused, with the reason."""
    with _listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        error = refusal(host="127.0.0.1", port=port)
    assert "not Redis" in str(error)


def test_a_server_that_never_answers_the_handshake():
    """A server that accepts and says nothing is given up after connect_timeout_s."""
    with _listener(b"") as port:
        begun = time.monotonic()
        error = refusal(host="127.0.0.1", port=port, connect_timeout_s=0.3)
    assert type(error) is ConnectionLostError
    assert "connect_timeout_s = 0.3" in str(error)
    assert time.monotonic() - begun < 5


@contextmanager
def _listener(answer: bytes) -> Iterator[int]:
    """Run a server that sends one answer to whatever it is asked, and keeps quiet."""
    held: list[socket.socket] = []

    def serve() -> None:
        accepted, _ = listening.accept()
        held.append(accepted)
        accepted.recv(1024)
        accepted.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()
    for accepted in held:
        accepted.close()


# -- losses -------------------------------------------------------------------------------------------------


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
    """Replies that nobody took are never paired with the next batch: the connection counts as lost."""
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
    settings = {"password": Secret("s3cret"), "tls": _tls(tls_files), "database": 1}
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
