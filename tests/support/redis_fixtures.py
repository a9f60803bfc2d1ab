"""Fixtures of a Redis cluster and a watched master, repaired for each test."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from server_fixtures import require

from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.redis_groups import RedisCluster, RedisClusterNode, RedisSentinel, WatchedRedis
from rambla_py.testing.server_process import ServerError

log = logging.getLogger("tests")


class _Clusters:
    """The run's cluster, and a new one when a test left it beyond repair."""

    def __init__(self) -> None:
        self._latest: RedisCluster | None = None

    def whole(self) -> RedisCluster:
        if self._latest is not None:
            try:
                return self._latest.start()
            except ServerError as error:
                log.warning("a new cluster is made: %s", error)
                self.close()
        self._latest = RedisCluster(masters=3, replicas=1)
        return self._latest.start()

    def close(self) -> None:
        if self._latest is not None:
            self._latest.close()
            self._latest = None


@pytest.fixture(scope="session")
def _clusters() -> Iterator[_Clusters]:
    require(RedisClusterNode)
    with closing(_Clusters()) as clusters:
        yield clusters


@pytest.fixture
def redis_cluster(_clusters: _Clusters) -> RedisCluster:
    """The run's cluster of three masters with a replica each. A test may kill, pause or move what it likes."""
    return _clusters.whole()


@pytest.fixture(scope="session")
def _one_node() -> Iterator[RedisClusterNode]:
    require(RedisClusterNode)
    with RedisClusterNode() as node:
        node.cli("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        node.settle()
        yield node


@pytest.fixture
def one_node_cluster(
    _one_node: RedisClusterNode, fault_proxy: Callable[..., FaultProxy]
) -> tuple[RedisClusterNode, FaultProxy]:
    """A cluster of one node, which tells clients that it is where the proxy before it listens.

    A test may kill it.
    """
    proxy = fault_proxy(_one_node)
    announce(_one_node.start(), proxy)
    return _one_node, proxy


def announce(node: RedisClusterNode, proxy: FaultProxy) -> None:
    """Have a node tell where its proxy is, and return once it serves."""
    node.cli("CONFIG", "SET", "cluster-announce-port", str(proxy.port))
    node.settle()


@pytest.fixture
def watched_redis() -> Iterator[Callable[..., WatchedRedis]]:
    """Make a master with replicas and sentinels: ``watched_redis(sentinels=3)``; closed after the test."""
    require(RedisSentinel)
    with ExitStack() as made:
        yield lambda **how: made.enter_context(WatchedRedis(**how))
