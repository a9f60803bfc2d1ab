"""Tests of the redis handler against real clusters, whose slots move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis
import redis.cluster
from load import until
from redis.crc import key_slot
from redis_cluster_worker import publish_to, worker
from redis_load import check_all_arrived, load_of, redis_app
from redis_worker import Worker

from rambla_py.errors import AccessError
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.redis_groups import RedisCluster, RedisClusterNode

OneNode = tuple[RedisClusterNode, FaultProxy]


@pytest.fixture
def client(redis_cluster: RedisCluster) -> Iterator[redis.RedisCluster]:
    nodes = [redis.cluster.ClusterNode(node.host, node.port) for node in redis_cluster.nodes]
    with redis.RedisCluster(startup_nodes=nodes, decode_responses=True) as made:
        yield made


# -- where commands go --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "option"), [("rpush", "list"), ("xadd", "stream"), ("publish", "topic")])
def test_commands_go_to_the_node_of_their_key(
    command: str, option: str, redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str
):
    """A batch for 300 keys on three masters succeeds at once; each answer belongs to its message."""
    names = [f"{unique_name}-{n}" for n in range(300)]
    with worker(redis_cluster) as w:
        answers = publish_to(w, option, names, command=command)
    if command == "rpush":
        assert answers == [1] * 300
        assert [client.lrange(name, 0, -1) for name in names] == [[str(n)] for n in range(300)]
    elif command == "xadd":
        entries = [client.xrange(name)[0] for name in names]
        assert entries == [(answers[n], {"id": f"run-{n:x}", "payload": str(n)}) for n in range(300)]
    else:
        assert answers == [0] * 300


def test_hset_and_scripts(redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str):
    """Commands that are scripts go to their key's node too."""
    with worker(redis_cluster, command="hset", hash=unique_name, ttl_s=100) as w:
        assert w.publish([{"a": 1, "b": 2}]) == [2]
    assert client.hgetall(unique_name) == {"a": "1", "b": "2"}
    assert 90_000 < client.pttl(unique_name) <= 100_000


def test_keys_of_one_message_in_many_slots(
    redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str
):
    """A mapping whose keys lie all over the cluster is set key by key, and the message succeeds as one."""
    mapping = {f"{unique_name}-{n}": str(n) for n in range(50)}
    with worker(redis_cluster, ttl_s=100) as w:
        assert w.publish([mapping, {unique_name: "one"}]) == ["OK", "OK"]
    assert {key: client.get(key) for key in mapping} == mapping
    assert all(90_000 < client.pttl(key) <= 100_000 for key in mapping)


def test_each_key_keeps_its_order(redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str):
    """2,500 messages to 25 lists arrive in the order of the batch, list by list, with the lengths as answers."""
    names = [f"{unique_name}-{n % 25}" for n in range(2_500)]
    with worker(redis_cluster) as w:
        answers = publish_to(w, "list", names, command="rpush")
    assert answers == [n // 25 + 1 for n in range(2_500)]
    for at in range(25):
        assert client.lrange(names[at], 0, -1) == [str(n) for n in range(at, 2_500, 25)]


def test_one_that_is_refused_fails_alone(
    redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str
):
    """Of a thousand messages the one for a key of another type is fatal, and no other."""
    names = [f"{unique_name}-{n}" for n in range(1_000)]
    client.set(names[500], "text")
    with worker(redis_cluster) as w:
        answers = publish_to(w, "list", names, command="rpush")
    refused = answers.pop(500)
    assert "WRONGTYPE" in str(refused)
    assert not refused.retryable
    assert answers == [1] * 999


def test_without_cluster_the_error_says_what_to_set(redis_cluster: RedisCluster, unique_name: str):
    """For a key of another node, the error of a plain connection says what to do."""
    other = next(
        node
        for node in redis_cluster.nodes
        if node is not redis_cluster.owner(key_slot(unique_name.encode()))
    )
    made = Worker({"host": other.host, "port": other.port}, {"command": "rpush", "list": unique_name})
    with closing(made):
        (answer,) = made.publish(["x"])
    assert type(answer) is AccessError
    assert "set cluster = true" in str(answer)


# -- slots that move ----------------------------------------------------------------------------------------


def test_a_slot_that_moved(redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str):
    """MOVED is followed within the batch: nothing is lost, doubled or out of order."""
    slot = key_slot(unique_name.encode())
    source = redis_cluster.owner(slot)
    to = next(redis_cluster.owner(at) for at in (0, 8_000, 16_000) if redis_cluster.owner(at) is not source)
    with worker(redis_cluster, command="rpush", list=unique_name) as w:
        assert w.publish("ab") == [1, 2]
        redis_cluster.move(slot, to)
        assert w.publish("cde") == [3, 4, 5]
        assert w.publish("f") == [6]
    assert client.lrange(unique_name, 0, -1) == list("abcdef")


def test_a_slot_on_its_way(redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str):
    """ASK is followed for what is not at the source; what still is there goes there."""
    stays, new = f"{{{unique_name}}}-stays", f"{{{unique_name}}}-new"
    slot = key_slot(unique_name.encode())
    source = redis_cluster.owner(slot)
    to = next(redis_cluster.owner(at) for at in (0, 8_000, 16_000) if redis_cluster.owner(at) is not source)
    with worker(redis_cluster) as w:
        assert publish_to(w, "list", [stays], command="rpush") == [1]

        def midway() -> None:
            assert publish_to(w, "list", [stays, new, stays, new], command="rpush") == [2, 1, 3, 2]
            assert source.cli("EXISTS", stays).strip() == "1"

        redis_cluster.move(slot, to, midway=midway)
        assert publish_to(w, "list", [stays, new], command="rpush") == [4, 3]
    assert client.lrange(stays, 0, -1) == ["0", "0", "2", "0"]
    assert client.lrange(new, 0, -1) == ["1", "3", "1"]


def test_keys_of_one_slot_torn_apart(redis_cluster: RedisCluster, unique_name: str):
    """TRYAGAIN uses up no retry: the message waits until the slot has moved, and then succeeds."""
    here, new = f"{{{unique_name}}}-here", f"{{{unique_name}}}-new"
    slot = key_slot(unique_name.encode())
    source = redis_cluster.owner(slot)
    to = next(redis_cluster.owner(at) for at in (0, 8_000, 16_000) if redis_cluster.owner(at) is not source)
    receipts = []
    with redis_app({"cluster": redis_cluster.addresses[:1]}, retries=0) as app:
        app.publish("orders", {here: 1}).result(timeout_s=10)

        def midway() -> None:
            receipts.append(app.publish("orders", {here: 2, new: 2}))
            until(lambda: app.status()["redis.orders"].reasons.get("unavailable:UnavailableError"))

        redis_cluster.move(slot, to, midway=midway)
        assert receipts[0].result(timeout_s=10) == "OK"
        assert receipts[0].outcomes()[0].attempts > 1


@pytest.mark.timeout(120)
def test_slots_that_move_under_load(
    redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str
):
    """While slots go from node to node each message arrives once, in the order of its list."""
    names = [f"{unique_name}-{n}" for n in range(20)]
    masters = [redis_cluster.owner(at) for at in (0, 8_000, 16_000)]
    with redis_app({"cluster": redis_cluster.addresses[:1]}, command="rpush") as app:
        with load_of(app, lambda n: {"list": names[n % 20]}) as load:
            for turn in range(30):
                slot = key_slot(names[turn % 20].encode())
                source = redis_cluster.owner(slot)
                redis_cluster.move(slot, masters[(masters.index(source) + 1) % 3])
            load.goes_on()
        load.outcomes()
        found = [client.lrange(name, 0, -1) for name in names]
        check_all_arrived(app, load, [number for listed in found for number in listed], once=True)
    assert all(listed == sorted(listed, key=int) for listed in found)
