"""Tests of how the redis handler connects to real clusters."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import redis
import redis.cluster
from redis_cluster_worker import worker
from redis_load import redis_app
from redis_worker import Worker, refusal

from rambla_py._internal.tls import TlsTable
from rambla_py.errors import AccessError, ConnectionLostError
from rambla_py.handler import Secret
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.ports import free_port
from rambla_py.testing.redis_groups import RedisCluster, RedisClusterNode
from rambla_py.testing.servers import RedisServer, TlsFiles

OneNode = tuple[RedisClusterNode, FaultProxy]


@pytest.fixture
def client(redis_cluster: RedisCluster) -> Iterator[redis.RedisCluster]:
    nodes = [redis.cluster.ClusterNode(node.host, node.port) for node in redis_cluster.nodes]
    with redis.RedisCluster(startup_nodes=nodes, decode_responses=True) as made:
        yield made


def test_a_url_of_several_nodes(redis_cluster: RedisCluster, unique_name: str):
    """redis+cluster:// names some nodes; one that is away does not matter."""
    url = f"redis+cluster://127.0.0.1:{free_port()},{redis_cluster.addresses[1]}"
    with closing(Worker({"url": Secret(url)}, {"command": "rpush", "list": unique_name})) as made:
        assert made.publish("a") == [1]


def test_ping(redis_cluster: RedisCluster):
    """A ping asks every master."""
    with worker(redis_cluster) as w:
        w.handler.ping(w.connection)
        gone = redis_cluster.owner(0)
        gone.kill()
        with pytest.raises(ConnectionLostError, match=str(gone.port)):
            w.handler.ping(w.connection)


def test_ping_of_a_cluster_with_gaps(one_node_cluster: OneNode):
    """A cluster that does not serve every slot says which are missing."""
    node, proxy = one_node_cluster
    node.cli("CLUSTER", "DELSLOTSRANGE", "100", "102")
    made = Worker({"port": proxy.port, "host": proxy.host, "cluster": True}, {})
    with closing(made), pytest.raises(ConnectionLostError, match="the slots 100-102"):
        made.handler.ping(made.connection)
    node.cli("CLUSTER", "ADDSLOTSRANGE", "100", "102")
    node.settle()


def test_nobody_there():
    """Where nothing listens, the error names each node."""
    ports = [free_port(), free_port()]
    error = refusal(cluster=[f"127.0.0.1:{port}" for port in ports])
    assert type(error) is ConnectionLostError
    assert all(str(port) in str(error) for port in ports)


def test_no_cluster(redis_server: RedisServer):
    """A server without cluster mode is refused, with its reason."""
    error = refusal(host=redis_server.host, port=redis_server.port, cluster=True)
    assert "cluster support disabled" in str(error)


def test_a_node_without_a_cluster():
    """A node that was never joined to others says that it knows of no slots."""
    with RedisClusterNode() as node:
        error = refusal(host=node.host, port=node.port, cluster=True)
    assert "no node that serves slots" in str(error)


@pytest.fixture(scope="module")
def secured(tls_files: TlsFiles) -> Iterator[RedisClusterNode]:
    """A cluster of one node that takes TLS only, and wants a password."""
    with RedisClusterNode(password="s3cret", tls=tls_files) as node:
        node.cli("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        node.settle()
        yield node


def test_tls_and_a_password(secured: RedisClusterNode, tls_files: TlsFiles, unique_name: str):
    """Each node is connected to with TLS and the password; the client of callables too."""
    url = Secret(f"rediss+cluster://:s3cret@127.0.0.1:{secured.port}")
    settings = {"url": url, "tls": TlsTable(ca_file=str(tls_files.authority))}
    with closing(Worker(settings, {"command": "rpush", "list": unique_name})) as made:
        assert made.publish("ab") == [1, 2]
        destination = made.handler.destination(made.connection)
        assert isinstance(destination, redis.RedisCluster)
        assert destination.lrange(unique_name, 0, -1) == [b"a", b"b"]
        assert made.handler.destination(made.connection) is destination


@pytest.mark.parametrize(
    ("password", "name", "expected"),
    [("canary", None, "WRONGPASS"), (None, None, "NOAUTH"), ("s3cret", "elsewhere.invalid", "elsewhere")],
)
def test_no_access(
    password: str | None, name: str | None, expected: str, secured: RedisClusterNode, tls_files: TlsFiles
):
    """A wrong password, none, or a certificate for another name is an AccessError that shows no password."""
    error = refusal(
        cluster=[f"127.0.0.1:{secured.port}"],
        password=password and Secret(password),
        tls=TlsTable(ca_file=str(tls_files.authority), server_name=name),
    )
    assert type(error) is AccessError
    assert expected in str(error)
    assert "canary" not in f"{error!r}{error.__cause__!r}"


def test_a_node_that_never_answers(fault_proxy: Callable[..., FaultProxy], redis_server: RedisServer):
    """A node that accepts and keeps silent is given up after connect_timeout_s."""
    proxy = fault_proxy(redis_server)
    proxy.black_hole()
    begun = time.monotonic()
    error = refusal(host=proxy.host, port=proxy.port, cluster=True, connect_timeout_s=0.3)
    assert "connect_timeout_s = 0.3" in str(error)
    assert time.monotonic() - begun < 3


def test_two_workers(redis_cluster: RedisCluster, client: redis.RedisCluster, unique_name: str):
    """Two workers, each with connections of its own, deliver each message once."""
    names = [f"{unique_name}-{n}" for n in range(10)]
    with redis_app({"cluster": redis_cluster.addresses[:1]}, channel={"count": 2}, command="rpush") as app:
        receipts = [app.publish("orders", str(n), list=names[n % 10]) for n in range(1_000)]
        assert {receipt.outcomes(timeout_s=20)[0].status for receipt in receipts} == {"ok"}
    found = [int(number) for name in names for number in client.lrange(name, 0, -1)]
    assert sorted(found) == list(range(1_000))
    assert threading.active_count() < 20
