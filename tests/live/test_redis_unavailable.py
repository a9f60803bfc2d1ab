"""Tests of the redis handler against servers that take no writes for a while, and of missing rights."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis
from load import until
from redis_load import redis_app
from redis_worker import Worker, worker

from rambla_py.errors import AccessError, DeliveryError, PermanentError, UnavailableError
from rambla_py.handler import Secret
from rambla_py.testing.server_process import free_port
from rambla_py.testing.servers import RedisServer

RESUMES_WITHIN_S = 4.0
Unwell = Callable[[redis.Redis], Iterator[None]]


def out_of_memory(admin: redis.Redis) -> Iterator[None]:
    admin.config_set("maxmemory", 1)
    yield
    admin.config_set("maxmemory", 0)


def replica(admin: redis.Redis) -> Iterator[None]:
    admin.replicaof("127.0.0.1", free_port())
    yield
    admin.replicaof("NO", "ONE")


def replica_without_data(admin: redis.Redis) -> Iterator[None]:
    admin.config_set("replica-serve-stale-data", "no")
    admin.replicaof("127.0.0.1", free_port())
    yield
    admin.replicaof("NO", "ONE")


def busy(admin: redis.Redis) -> Iterator[None]:
    admin.config_set("lua-time-limit", 1)

    def spin() -> None:
        with suppress(redis.RedisError):
            admin.eval("while true do end", 0)

    runner = threading.Thread(target=spin)
    runner.start()
    try:
        until(lambda: _refuses(admin))
        yield
    finally:
        admin.script_kill()
        runner.join()


def _refuses(admin: redis.Redis) -> bool:
    try:
        return not admin.ping()
    except redis.RedisError:
        return True


def too_few_replicas(admin: redis.Redis) -> Iterator[None]:
    admin.config_set("min-replicas-to-write", 1)
    yield
    admin.config_set("min-replicas-to-write", 0)


STATES = [out_of_memory, replica, replica_without_data, busy, too_few_replicas]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as made:
        yield made


@pytest.fixture
def admin(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as made:
        yield made


@pytest.mark.parametrize("state", STATES)
def test_a_server_that_takes_no_writes(
    state: Unwell, server: RedisServer, admin: redis.Redis, unique_name: str
):
    """Its messages are unavailable, not lost, and the same worker delivers once the server is well."""
    with worker(server, command="rpush", list=unique_name) as w:
        with contextmanager(state)(admin):
            answers = w.publish(["x", "y"])
        assert [type(answer) for answer in answers] == [UnavailableError] * 2
        assert w.publish(["z"]) == [1]


@pytest.mark.parametrize("state", STATES)
def test_a_channel_while_its_server_takes_no_writes(
    state: Unwell, server: RedisServer, admin: redis.Redis, unique_name: str
):
    """Without a retry to spend nothing is lost, and delivery resumes within seconds."""
    with redis_app({"url": server.url}, command="rpush", list=unique_name, retries=0) as app:
        app.publish("orders", "first").result(timeout_s=10)
        with contextmanager(state)(admin):
            receipt = app.publish_many("orders", [str(n) for n in range(100)])
            until(lambda: app.status()["redis.orders"].state == "blocked")
        began = time.monotonic()
        assert {outcome.status for outcome in receipt.outcomes(timeout_s=20)} == {"ok"}
        assert time.monotonic() - began < RESUMES_WITHIN_S
    assert admin.llen(unique_name) == 101


class _Loading(socketserver.BaseRequestHandler):
    """A server that loads its data: it answers LOADING, to the login too."""

    def handle(self) -> None:
        while self.request.recv(65_536):
            self.request.sendall(b"-LOADING Redis is loading the dataset in memory\r\n")


def test_a_server_that_is_loading_at_the_login():
    """It is a connection that could not be made, and not an operator's business."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Loading) as listener:
        listener.daemon_threads = True
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        with pytest.raises(DeliveryError, match="LOADING") as caught:
            Worker({"host": "127.0.0.1", "port": listener.server_address[1]}, {})
        listener.shutdown()
    assert not isinstance(caught.value, AccessError)


@pytest.fixture
def limited(admin: redis.Redis, unique_name: str) -> Iterator[dict[str, Any]]:
    """A user who may write one key only, by one command, and not even PING."""
    rights = {"keys": ["allowed"], "commands": ["+rpush", "+set", "+select"]}
    admin.acl_setuser(unique_name, enabled=True, passwords=["+pw"], **rights)
    admin.flushall()  # the key is of another type after another test
    yield {"username": unique_name, "password": Secret("pw"), "database": 1}
    admin.acl_deluser(unique_name)


@pytest.mark.parametrize("options", [{"list": "other"}, {"command": "lpush", "list": "allowed"}], ids=repr)
def test_a_right_that_the_channel_lacks(
    options: dict[str, Any], server: RedisServer, limited: dict[str, Any], unique_name: str
):
    """A user without PING connects; a key or a command of the channel that is denied needs an operator."""
    with worker(server, limited, command="rpush", list="allowed") as w:
        assert w.publish(["x"])[0] >= 1
    with worker(server, limited, **{"command": "rpush", **options}) as w:
        (answer,) = w.publish(["x"])
    assert type(answer) is AccessError
    assert "NOPERM" in str(answer)


def test_a_right_that_one_message_lacks(server: RedisServer, limited: dict[str, Any]):
    """A key that the payload names, and that is denied, fails its message alone."""
    with worker(server, limited) as w:
        denied, allowed = w.publish([{"other": "x"}, {"allowed": "x"}])
    assert isinstance(denied, PermanentError)
    assert allowed == "OK"


def test_a_database_without_the_right_to_select_it(server: RedisServer, admin: redis.Redis, unique_name: str):
    """Nothing is ever written to another database than the configured one."""
    admin.acl_setuser(unique_name, enabled=True, passwords=["+pw"], keys=["*"], commands=["+rpush", "+ping"])
    settings = {"username": unique_name, "password": Secret("pw"), "database": 1}
    with pytest.raises(AccessError, match="NOPERM"), worker(server, settings, command="rpush") as w:
        w.publish(["x"])
    admin.acl_deluser(unique_name)
