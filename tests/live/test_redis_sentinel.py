"""Tests of the redis handler with masters that sentinels watch over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
from load import until
from redis_load import check_all_arrived, load_of, redis_app
from redis_worker import Worker, refusal
from waiting import in_background

from rambla_py._internal.tls import TlsTable
from rambla_py.errors import AccessError, ConnectionLostError, UnavailableError, UnknownOutcomeError
from rambla_py.handler import Secret
from rambla_py.handlers.redis.errors import NotReplicatedError
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.ports import free_port
from rambla_py.testing.redis_groups import RedisSentinel, WatchedRedis
from rambla_py.testing.servers import TlsFiles

Watched = Callable[..., WatchedRedis]


@pytest.fixture(scope="module")
def calm() -> Iterator[WatchedRedis]:
    """A master with a replica and a sentinel, for tests that leave the master alone."""
    with WatchedRedis() as watched:
        yield watched


def entries(watched: WatchedRedis, stream: str) -> list[str]:
    with redis.Redis(port=watched.master.port, decode_responses=True) as client:
        return [fields["payload"] for _, fields in client.xrange(stream)]


# -- finding the master -------------------------------------------------------------------------------------


def test_the_master_is_found(calm: WatchedRedis, unique_name: str):
    """Messages go to the server that the sentinel names, in the database of the connection."""
    settings = {"sentinels": calm.addresses, "master": "main", "database": 1}
    made = Worker(settings, {"command": "rpush", "list": unique_name})
    with closing(made), redis.Redis(port=calm.master.port, db=1) as client:
        assert made.publish("ab") == [1, 2]
        assert client.lrange(unique_name, 0, -1) == [b"a", b"b"]
        assert made.handler.destination(made.connection).llen(unique_name) == 2
        made.handler.ping(made.connection)


def test_a_url_of_sentinels(calm: WatchedRedis, unique_name: str):
    """redis+sentinel:// names sentinels, master and database; a sentinel that is away does not matter."""
    url = Secret(f"redis+sentinel://127.0.0.1:{free_port()},{calm.addresses[0]}/main/2")
    made = Worker({"url": url}, {"command": "rpush", "list": unique_name})
    with closing(made), redis.Redis(port=calm.master.port, db=2) as client:
        assert made.publish("a") == [1]
        assert client.llen(unique_name) == 1


def test_a_master_that_nobody_knows(calm: WatchedRedis):
    """A name that is misspelled is answered with those that the sentinel knows."""
    error = refusal(sentinels=calm.addresses, master="mian")
    assert type(error) is ConnectionLostError
    assert "'mian'" in str(error)
    assert "it knows: 'main'" in str(error)


def test_no_sentinel_there():
    """Where nothing listens, the error names each sentinel."""
    ports = [free_port(), free_port()]
    error = refusal(sentinels=[f"127.0.0.1:{port}" for port in ports], master="main")
    assert type(error) is ConnectionLostError
    assert all(f"sentinel at 127.0.0.1:{port}" in str(error) for port in ports)


def test_a_sentinel_that_never_answers(calm: WatchedRedis, fault_proxy: Callable[..., FaultProxy]):
    """A sentinel that accepts and keeps silent is given up after connect_timeout_s; the next one is asked."""
    proxy = fault_proxy(calm.sentinels[0])
    proxy.black_hole()
    settings = {
        "sentinels": [f"{proxy.host}:{proxy.port}", *calm.addresses],
        "master": "main",
        "connect_timeout_s": 0.3,
    }
    begun = time.monotonic()
    with closing(Worker(settings, {"command": "publish"})) as made:
        assert time.monotonic() - begun < 2
        assert made.publish("x") == [0]
        made.close()
        begun = time.monotonic()
        with closing(made.handler.connect()):  # by the one that answered last time
            assert time.monotonic() - begun < 0.3


def test_a_sentinel_that_is_behind(calm: WatchedRedis):
    """A server that turns out to be a replica is refused: a failover is under way."""
    replica = next(server for server in calm.servers if server is not calm.master)
    with RedisSentinel(replica) as behind:
        error = refusal(sentinels=[f"127.0.0.1:{behind.port}"], master="main")
    assert type(error) is ConnectionLostError
    assert "not a master but a slave" in str(error)


# -- access -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secured(tls_files: TlsFiles) -> Iterator[WatchedRedis]:
    """Servers and sentinel with a password each, over TLS only."""
    with WatchedRedis(password="s3cret", sentinel_password="g4rden", tls=tls_files, replicas=0) as watched:
        yield watched


def access(watched: WatchedRedis, tls_files: TlsFiles, **changes: Any) -> dict[str, Any]:
    settings = {
        "sentinels": watched.addresses,
        "master": "main",
        "password": Secret("s3cret"),
        "sentinel_password": Secret("g4rden"),
        "tls": TlsTable(ca_file=str(tls_files.authority)),
    }
    return {**settings, **changes}


def test_tls_and_passwords(secured: WatchedRedis, tls_files: TlsFiles, unique_name: str):
    """Sentinels and master each get their own password, over TLS."""
    made = Worker(access(secured, tls_files), {"command": "rpush", "list": unique_name})
    with closing(made):
        assert made.publish("a") == [1]


@pytest.mark.parametrize(
    ("changes", "who", "expected"),
    [
        ({"password": Secret("canary")}, "redis at", "WRONGPASS"),
        ({"sentinel_password": Secret("canary")}, "sentinel at", "WRONGPASS"),
        ({"sentinel_password": None}, "sentinel at", "NOAUTH"),
        ({"sentinel_tls": TlsTable()}, "sentinel at", "certificate"),
    ],
)
def test_no_access(
    changes: dict[str, Any], who: str, expected: str, secured: WatchedRedis, tls_files: TlsFiles
):
    """A wrong password or certificate is an AccessError that says whose it was, and shows no password."""
    error = refusal(**access(secured, tls_files, **changes))
    assert type(error) is AccessError
    assert who in str(error)
    assert expected in str(error)
    assert not {"canary", "s3cret", "g4rden"} & set(f"{error!r}{error.__cause__!r}".replace("'", " ").split())


# -- failing over -------------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
@pytest.mark.parametrize("sentinels", [1, 3])
def test_a_master_that_is_killed_under_load(sentinels: int, watched_redis: Watched, unique_name: str):
    """Nothing that all replicas confirmed is missing on the new master; each message has one outcome.

    With fewer than all of them, a sentinel may promote one that did not confirm.
    """
    watched = watched_redis(replicas=2, sentinels=sentinels)
    settings = {
        "sentinels": watched.addresses,
        "master": "main",
        "wait_replicas": 2,
        "connect_timeout_s": 1,
        "read_timeout_s": 1,
        "wait_timeout_s": 0.5,
    }
    with redis_app(settings, command="xadd", stream=unique_name, retries=10_000) as app:
        with load_of(app, lambda n: {}) as load:
            old = watched.master
            old.kill()
            until(lambda: watched.master is not old)
            old.start()
            old.cli("REPLICAOF", old.host, str(watched.master.port))
            load.goes_on()
        load.outcomes()
        check_all_arrived(app, load, entries(watched, unique_name), once=False)


@pytest.mark.timeout(120)
def test_a_master_that_is_demoted_under_load(watched_redis: Watched, unique_name: str):
    """A master that hands over while it serves: what it refuses goes to the new one, spending nothing."""
    watched = watched_redis()
    settings = {"sentinels": watched.addresses, "master": "main", "wait_replicas": 1}
    with redis_app(settings, command="xadd", stream=unique_name, retries=10_000) as app:
        with load_of(app, lambda n: {}) as load:
            old = watched.master
            watched.sentinels[0].cli("SENTINEL", "FAILOVER", "main")
            until(lambda: watched.master is not old)
            # As the sentinel does too, ten seconds later: until then it goes on as a master without a replica.
            old.cli("REPLICAOF", old.host, str(watched.master.port))
            load.goes_on()
        load.outcomes()
        check_all_arrived(app, load, entries(watched, unique_name), once=False)


@pytest.mark.timeout(60)
def test_a_move_is_heard_of(watched_redis: Watched, unique_name: str):
    """The worker leaves a master that was replaced as soon as the sentinel says so, though it still takes writes."""
    watched = watched_redis()
    old = watched.master
    settings = {"sentinels": watched.addresses, "master": "main"}
    made = Worker(settings, {"command": "rpush", "list": unique_name})
    with closing(made):
        assert made.publish("a") == [1]
        watched.sentinels[0].cli("SENTINEL", "FAILOVER", "main")
        refusals: list[str] = []

        def refused() -> bool:
            try:
                made.publish("b")
            except ConnectionLostError as error:
                refusals.append(str(error))
            return bool(refusals)

        until(refused)
        assert f"the sentinels promoted 127.0.0.1:{watched.master.port}" in refusals[0]
        assert old.info("replication")["role"] == "master"
        with closing(made.handler.connect()) as wire:
            assert wire.address.port == watched.master.port


def test_a_sentinel_that_went_away(watched_redis: Watched, unique_name: str):
    """Without anybody to listen to, the master is written to as before."""
    watched = watched_redis(replicas=0)
    settings = {"sentinels": watched.addresses, "master": "main"}
    with closing(Worker(settings, {"command": "rpush", "list": unique_name})) as made:
        watched.sentinels[0].kill()
        assert made.publish("a") == [1]
        assert made.publish("b") == [2]


def test_a_master_that_became_a_replica(watched_redis: Watched, unique_name: str):
    """READONLY applies nothing, and has the sentinels asked again."""
    watched = watched_redis(sentinels=1)
    old = watched.master
    other = next(server for server in watched.servers if server is not old)
    settings = {"sentinels": watched.addresses, "master": "main"}
    made = Worker(settings, {"command": "rpush", "list": unique_name})
    with closing(made):
        assert made.publish("a") == [1]
        old.cli("REPLICAOF", other.host, str(other.port))  # behind the sentinel's back
        assert [type(answer) for answer in made.publish("b")] == [UnavailableError]
        with pytest.raises(ConnectionLostError, match="asking the sentinels"):
            made.publish("b")


# -- replicas -----------------------------------------------------------------------------------------------


def test_a_replica_has_what_is_confirmed(calm: WatchedRedis, unique_name: str):
    """With wait_replicas = 1 every result of a batch stands on the replica at once."""
    settings = {"sentinels": calm.addresses, "master": "main", "wait_replicas": 1}
    replica = next(server for server in calm.servers if server is not calm.master)
    made = Worker(settings, {"command": "rpush", "list": unique_name})
    with closing(made), redis.Redis(port=replica.port) as client:
        assert made.publish(map(str, range(3_000))) == list(range(1, 3_001))
        assert client.llen(unique_name) == 3_000


def test_too_few_replicas(calm: WatchedRedis, unique_name: str):
    """Fewer replicas than wanted fail what was written, and nothing else; the error counts them."""
    settings = {"sentinels": calm.addresses, "master": "main", "wait_replicas": 2, "wait_timeout_s": 1.0}
    made = Worker(settings, {"command": "rpush", "list": unique_name})
    with closing(made):
        first, poison = made.publish(["a", [object()]])
        assert made.handler.handle_batch([made.message(0, [object()])], made.state) != []
    assert type(first) is NotReplicatedError
    assert "only 1 of wait_replicas = 2" in str(first)
    assert "serialize" in str(poison)


def test_a_loss_while_waiting_for_replicas(
    calm: WatchedRedis, fault_proxy: Callable[..., FaultProxy], unique_name: str
):
    """A master that goes after the write and before the replicas' word leaves an unknown outcome."""
    proxy = fault_proxy(calm.master)
    settings = {"host": proxy.host, "port": proxy.port, "wait_replicas": 2, "wait_timeout_s": 5}
    made = Worker(settings, {"command": "rpush", "list": unique_name})
    with closing(made):
        before = proxy.bytes_down
        thread, answers = in_background(lambda: made.publish("abc"))
        until(lambda: proxy.bytes_down >= before + len(b":1\r\n:2\r\n:3\r\n"))
        proxy.cut()
        thread.join(10)
        assert {type(answer) for answer in answers} == {UnknownOutcomeError}
        assert "replicas" in str(answers[0])
