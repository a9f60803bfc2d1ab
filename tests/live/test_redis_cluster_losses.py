"""Tests of the redis handler against real clusters, whose nodes die."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis
import redis.cluster
from load import WAIT_S, until
from redis.crc import key_slot
from redis_cluster_worker import every_node_alone, name_in, publish_to, worker
from redis_load import check_all_arrived, load_of, redis_app
from redis_worker import Worker
from waiting import in_background, kinds, wait_until

from rambla_py.errors import ConnectionLostError, UnavailableError, UnknownOutcomeError
from rambla_py.handlers.redis.errors import NotReplicatedError
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.redis_groups import RedisCluster, RedisClusterNode

OneNode = tuple[RedisClusterNode, FaultProxy]


@pytest.fixture
def client(redis_cluster: RedisCluster) -> Iterator[redis.RedisCluster]:
    nodes = [redis.cluster.ClusterNode(node.host, node.port) for node in redis_cluster.nodes]
    with redis.RedisCluster(startup_nodes=nodes, decode_responses=True) as made:
        yield made


@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", ["kill", "pause"])
def test_a_master_that_dies_under_load(
    end: str, redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str
):
    """Its replica takes over, and has all that wait_replicas = 1 confirmed; in the end every message is ok."""
    names = [f"{unique_name}-{n}" for n in range(20)]
    master = redis_cluster.owner(key_slot(names[0].encode()))
    settings = {
        "cluster": redis_cluster.addresses,
        "wait_replicas": 1,
        "read_timeout_s": 0.5,
        "connect_timeout_s": 0.5,
        "wait_timeout_s": 0.4,
    }
    with redis_app(settings, command="xadd", retries=10_000) as app:
        with load_of(app, lambda n: {"stream": names[n % 20]}) as load:
            getattr(master, end)()
            until(lambda: redis_cluster.owner(key_slot(names[0].encode())) is not master)
            redis_cluster.start()  # it comes back as a replica, which the new master wants to confirm
            load.goes_on()
        load.outcomes()
        found = [fields["payload"] for name in names for _, fields in client.xrange(name)]
        check_all_arrived(app, load, found, once=False)


@pytest.mark.timeout(120)
def test_the_others_go_on(redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str):
    """While a node is away its messages wait, spending nothing; those for other nodes are delivered."""
    slots = (0, 8_000, 16_000)
    names = [name_in(slot, unique_name) for slot in slots]
    gone = redis_cluster.owner(slots[0])
    with (
        every_node_alone(redis_cluster),
        redis_app({"cluster": redis_cluster.addresses}, command="rpush", retries=0) as app,
    ):
        app.publish("orders", "0", list=names[0]).result(WAIT_S)
        gone.kill()
        waiting = [app.publish("orders", str(n), list=names[0]) for n in range(1, 200)]
        others = [app.publish("orders", str(n), list=names[1 + n % 2]) for n in range(200)]
        statuses = {receipt.outcomes(WAIT_S)[0].status for receipt in others}
        assert statuses == {"ok"}
        assert not any(receipt.done() for receipt in waiting)
        gone.start()
        assert {receipt.outcomes(WAIT_S)[0].status for receipt in waiting} == {"ok"}
    assert sorted(map(int, client.lrange(names[0], 0, -1))) == list(range(200))


def test_a_node_that_keeps_silent(redis_cluster: RedisCluster, unique_name: str):
    """Its messages have an unknown outcome after read_timeout_s; the others of the batch their results."""
    slots = (0, 8_000, 16_000)
    names = [name_in(slot, unique_name) for slot in slots]
    with worker(redis_cluster, {"read_timeout_s": 0.4}) as w:
        assert publish_to(w, "list", names, command="rpush") == [1, 1, 1]
        silent = redis_cluster.owner(slots[1])
        silent.pause()
        begun = time.monotonic()
        answers = publish_to(w, "list", names * 2, command="rpush")
        took_s = time.monotonic() - begun
        silent.resume()
    assert took_s < 2
    assert [answers[at] for at in (0, 2, 3, 5)] == [2, 2, 3, 3]
    assert kinds([answers[1], answers[4]]) == {UnknownOutcomeError}


def test_silence_of_all_is_waited_for_once(redis_cluster: RedisCluster, unique_name: str):
    """When no node answers, the batch ends after one read_timeout_s, not one for each."""
    names = [name_in(slot, unique_name) for slot in (0, 8_000, 16_000)]
    with worker(redis_cluster, {"read_timeout_s": 0.5}) as w:
        publish_to(w, "list", names, command="rpush")
        for node in redis_cluster.nodes:
            node.pause()
        begun = time.monotonic()
        answers = publish_to(w, "list", names, command="rpush")
        took_s = time.monotonic() - begun
    assert kinds(answers) == {UnknownOutcomeError}
    assert 0.4 < took_s < 1.2


def test_a_connection_that_ended_while_idle(one_node_cluster: OneNode, unique_name: str):
    """It is reopened; nothing was in flight, so no outcome is unknown."""
    _, proxy = one_node_cluster
    made = Worker(
        {"port": proxy.port, "host": proxy.host, "cluster": True}, {"list": unique_name, "command": "rpush"}
    )
    with closing(made):
        assert made.publish("a") == [1]
        proxy.cut()
        wait_until(lambda: proxy.open == 0)
        assert made.publish("b") == [2]
    assert proxy.cuts == 1


def test_a_loss_among_the_answers(one_node_cluster: OneNode, unique_name: str):
    """What was answered is a result; the rest has an unknown outcome."""
    _, proxy = one_node_cluster
    made = Worker(
        {"port": proxy.port, "host": proxy.host, "cluster": True}, {"list": unique_name, "command": "rpush"}
    )
    with closing(made):
        proxy.cut_after(len(b":1\r\n") * 3, direction="down")
        answers = made.publish("abcde")
    assert answers[:3] == [1, 2, 3]
    assert kinds(answers[3:]) == {UnknownOutcomeError}


def test_what_was_not_written_is_not_unknown(one_node_cluster: OneNode):
    """Messages behind a failed write were not sent, nor are those behind them: nothing overtakes."""
    _, proxy = one_node_cluster
    made = Worker({"port": proxy.port, "host": proxy.host, "cluster": True}, {"command": "publish"})
    with closing(made):
        proxy.cut_after(3_000_000)
        answers = made.publish([b"x" * 1_000_000] * 60)
    unsent = [type(answer) for answer in answers].index(ConnectionLostError)
    assert kinds(answers[:unsent]) <= {int, UnknownOutcomeError}
    assert kinds(answers[unsent:]) == {ConnectionLostError}
    assert unsent < 60


def test_half_a_message_does_nothing(one_node_cluster: OneNode):
    """When nothing was written whole, nothing is unknown: the loss is one before the write."""
    _, proxy = one_node_cluster
    made = Worker({"port": proxy.port, "host": proxy.host, "cluster": True}, {"command": "publish"})
    with closing(made):
        proxy.cut_after(1_000_000)
        (answer,) = made.publish([b"x" * 60_000_000])
    assert type(answer) is ConnectionLostError
    assert proxy.cuts == 1


def test_a_message_that_was_written_in_part(redis_cluster: RedisCluster, unique_name: str):
    """A mapping of which one node has a key and another did not answer has an unknown outcome."""
    names = [name_in(slot, unique_name) for slot in (0, 8_000, 16_000)]
    with worker(redis_cluster, {"read_timeout_s": 0.3}) as w:
        assert w.publish([dict.fromkeys(names, "1")]) == ["OK"]
        redis_cluster.owner(8_000).pause()
        assert kinds(w.publish([dict.fromkeys(names, "2")])) == {UnknownOutcomeError}


def test_a_node_that_was_not_there_in_time(redis_cluster: RedisCluster, unique_name: str):
    """What could not be sent holds back the messages of its node, and no others."""
    name = name_in(0, unique_name)
    with worker(redis_cluster) as w:
        redis_cluster.owner(0).kill()
        (answer,) = publish_to(w, "list", [name], command="rpush")
    assert type(answer) is UnavailableError
    assert answer.scope.startswith("redis node 127.0.0.1")


def test_close_wakes_who_waits(one_node_cluster: OneNode):
    """Closing from another thread ends a wait for answers at once, with unknown outcomes."""
    _, proxy = one_node_cluster
    settings = {"port": proxy.port, "host": proxy.host, "cluster": True, "read_timeout_s": 60}
    made = Worker(settings, {"command": "publish"})
    with closing(made):
        made.publish("x")
        proxy.black_hole()
        thread, answers = in_background(lambda: made.publish("ab"))
        wait_until(lambda: proxy.swallowed > 0)
        made.close()
        thread.join(10)
        assert not thread.is_alive()
        made.close()
    assert kinds(answers) == {UnknownOutcomeError}


def test_confirmed_by_replicas(redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str):
    """With wait_replicas a result means that a replica has it too."""
    names = [f"{unique_name}-{n}" for n in range(30)]
    with worker(redis_cluster, {"wait_replicas": 1}) as w:
        assert publish_to(w, "list", names, command="rpush") == [1] * 30


def test_too_few_replicas(redis_cluster: RedisCluster, unique_name: str):
    """More replicas than there are fail the messages, and the error counts them."""
    with worker(redis_cluster, {"wait_replicas": 2, "wait_timeout_s": 1.0}, command="rpush") as w:
        (answer,) = w.publish("a")
    assert type(answer) is NotReplicatedError
    assert "only 1 of wait_replicas = 2" in str(answer)
    assert answer.retryable
