"""The recipes of Redis servers that belong together: a cluster, and a master under sentinels.

::

    with RedisCluster() as cluster:
        redis.RedisCluster(port=cluster.nodes[0].port).ping()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rambla_py.testing.ports import HOST, free_port
from rambla_py.testing.redis_cli import SpeakingRedis, between, fields_of_info, run_cli, until
from rambla_py.testing.server_process import ServerError
from rambla_py.testing.servers import RedisServer, TlsFiles

__all__ = ["RedisCluster", "RedisClusterNode", "RedisSentinel", "WatchedRedis"]

_PATIENT_S = 15.0


class RedisClusterNode(SpeakingRedis):
    """One node of a ``RedisCluster``."""

    def __init__(
        self, *, password: str | None = None, tls: TlsFiles | None = None, node_timeout_s: float = 1.0
    ) -> None:
        lines = [
            "cluster-enabled yes",
            "cluster-config-file nodes.conf",
            f"cluster-node-timeout {round(node_timeout_s * 1000)}",
            f"cluster-port {free_port()}",
            "cluster-replica-validity-factor 0",  # else a replica that lost touch for 20 s never takes over
            "cluster-allow-replica-migration no",
            *between(password, tls, "tls-cluster yes"),
        ]
        super().__init__(password=password, tls=tls, config=lines)

    def wait_for_others(self, node_timeout_s: float) -> None:
        """Set after how long it considers others failed that do not answer, until it is started again."""
        self.cli("CONFIG", "SET", "cluster-node-timeout", str(round(node_timeout_s * 1000)))

    @property
    def id(self) -> str:
        """The node's id in the cluster."""
        return self.cli("CLUSTER", "MYID").strip()

    def settle(self) -> None:
        """Return once it serves requests, which takes a moment after a start or new slots."""
        until(lambda: "cluster_state:ok" in self.cli("CLUSTER", "INFO"), lambda: f"{self!r} does not serve")


class RedisCluster:
    """A private cluster: ``nodes`` holds first what began as masters, then what began as replicas.

    A master that was killed is failed over, where it has a replica, about ``node_timeout_s`` and a second
    later.
    """

    def __init__(
        self,
        *,
        masters: int = 3,
        replicas: int = 0,
        password: str | None = None,
        tls: TlsFiles | None = None,
        node_timeout_s: float = 1.0,
    ) -> None:
        self.replicas, self.node_timeout_s = replicas, node_timeout_s
        self.nodes = [
            RedisClusterNode(password=password, tls=tls, node_timeout_s=node_timeout_s)
            for _ in range(masters * (1 + replicas))
        ]
        self._created = False

    def __repr__(self) -> str:
        return f"<RedisCluster {' '.join(str(node.port) for node in self.nodes)}>"

    @property
    def addresses(self) -> list[str]:
        """``host:port`` of each node."""
        return [f"{node.host}:{node.port}" for node in self.nodes]

    def start(self) -> Self:
        """Start what does not run, and return once every slot is served, and every master has its replicas.

        Raises ``ServerError`` with each node's view of the cluster when that does not happen. A
        cluster may be beyond repair: when a master dies before its replica heard of a slot that it was just
        given, both are masters afterwards. Make a new one then.
        """
        for node in self.nodes:
            if node.running:
                node.resume()
            node.start()
        if not self._created:
            self._create()
            self._created = True
        until(lambda: not self._lacks(), lambda: f"{self!r} did not become whole: {self._lacks()}")
        return self

    def close(self) -> None:
        """End all nodes and remove their folders; may be called twice."""
        for node in self.nodes:
            node.close()

    def owner(self, slot: int) -> RedisClusterNode:
        """Return the master of a slot, dead or alive, as the others see it; raises ``ServerError``."""
        for node in self.awake():
            port = _owner_port(node.cli("CLUSTER", "NODES"), slot)
            if port is not None:
                return next(one for one in self.nodes if one.port == port)
        raise ServerError(repr(self), f"no node serves slot {slot}")

    def awake(self) -> list[RedisClusterNode]:
        """Return the nodes that run and are not paused."""
        return [node for node in self.nodes if node.running and not node.paused]

    def move(self, slot: int, to: RedisClusterNode, *, midway: Callable[[], None] = lambda: None) -> None:
        """Move a slot and its keys to another master, calling ``midway`` while it is on its way."""
        source = self.owner(slot)
        to.cli("CLUSTER", "SETSLOT", str(slot), "IMPORTING", source.id)
        source.cli("CLUSTER", "SETSLOT", str(slot), "MIGRATING", to.id)
        midway()
        while keys := source.cli("CLUSTER", "GETKEYSINSLOT", str(slot), "100").split():
            source.cli("MIGRATE", to.host, str(to.port), "", "0", "5000", "KEYS", *keys)
        for node in (to, source):
            node.cli("CLUSTER", "SETSLOT", str(slot), "NODE", to.id)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _create(self) -> None:
        """Create the cluster, once only, so that no node may take too long to answer."""
        for node in self.nodes:
            node.wait_for_others(_PATIENT_S)
        create = ["--cluster", "create", *self.addresses, "--cluster-replicas", str(self.replicas)]
        run_cli(self.nodes[0], [*create, "--cluster-yes"])
        for node in self.nodes:
            node.wait_for_others(self.node_timeout_s)

    def _lacks(self) -> str:
        """Return what a node lacks (slots, other nodes, its master, its replicas), or an empty string."""
        for node in self.nodes:
            seen, state, replication = node.replies("CLUSTER NODES", "CLUSTER INFO", "INFO replication")
            if "cluster_state:ok" not in state or "fail" in seen:
                return f"{node!r} sees\n{seen}"
            info = fields_of_info(replication)
            if info.get("master_link_status", "up") != "up":
                return f"{node!r} is out of step with its master; it sees\n{seen}"
            if info["role"] == "master" and int(info["connected_slaves"]) != self.replicas:
                return f"{node!r} has {info['connected_slaves']} of {self.replicas} replicas; it sees\n{seen}"
        return ""


class RedisSentinel(SpeakingRedis):
    """A private sentinel over one master, known to it as ``main``."""

    def __init__(
        self,
        master: RedisServer,
        *,
        quorum: int = 1,
        password: str | None = None,
        tls: TlsFiles | None = None,
        down_after_s: float = 0.5,
    ) -> None:
        lines = [
            f"sentinel monitor main {master.host} {master.port} {quorum}",
            f"sentinel down-after-milliseconds main {round(down_after_s * 1000)}",
            "sentinel failover-timeout main 3000",
            *([f"sentinel auth-pass main {master.password}"] if master.password else []),
            *([f"sentinel sentinel-pass {password}"] if password else []),
            *(["tls-replication yes"] if tls else []),
        ]
        super().__init__(password=password, tls=tls, config=lines)

    def _prepare(self) -> None:
        lines = [
            f"bind {HOST}",
            f"port {0 if self.tls else self.port}",
            f"dir {self.folder}",
            *self._security(),
            *self.config,
        ]
        (self.folder / "redis.conf").write_text("\n".join(lines) + "\n")

    def _argv(self) -> Sequence[str]:
        return [*super()._argv(), "--sentinel"]

    def master_port(self) -> int:
        """Return the master's address, as this sentinel sees it."""
        return int(self.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main").split()[1])


class WatchedRedis:
    """A master with replicas, and sentinels that fail over when it does not answer for half a second."""

    def __init__(
        self,
        *,
        replicas: int = 1,
        sentinels: int = 1,
        password: str | None = None,
        sentinel_password: str | None = None,
        tls: TlsFiles | None = None,
    ) -> None:
        first = SpeakingRedis(password=password, tls=tls, config=list(between(password, tls)))
        follow = [*between(password, tls), f"replicaof {first.host} {first.port}"]
        self.servers = [
            first,
            *(SpeakingRedis(password=password, tls=tls, config=follow) for _ in range(replicas)),
        ]
        self.sentinels = [
            RedisSentinel(first, quorum=sentinels // 2 + 1, password=sentinel_password, tls=tls)
            for _ in range(sentinels)
        ]

    def __repr__(self) -> str:
        return f"<WatchedRedis {' '.join(str(server.port) for server in self.servers)}>"

    @property
    def addresses(self) -> list[str]:
        """``host:port`` of each sentinel."""
        return [f"{sentinel.host}:{sentinel.port}" for sentinel in self.sentinels]

    @property
    def master(self) -> RedisServer:
        """The master, as the first sentinel sees it."""
        port = self.sentinels[0].master_port()
        return next(server for server in self.servers if server.port == port)

    def start(self) -> Self:
        """Start what does not run; return once the replicas are in sync and the sentinels know them."""
        for server in [*self.servers, *self.sentinels]:
            if server.running:
                server.resume()
            server.start()
        until(self._in_step, lambda: f"{self!r} did not come into step")
        return self

    def close(self) -> None:
        """End all of it and remove the folders; may be called twice."""
        for server in [*self.sentinels, *self.servers]:
            server.close()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self.close)
            self.start()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _in_step(self) -> bool:
        states = [server.info("replication") for server in self.servers]
        roles = sorted(state["role"] for state in states)
        links = all(state.get("master_link_status", "up") == "up" for state in states)
        return roles.count("master") == 1 and links and all(map(self._knows_all, self.sentinels))

    def _knows_all(self, sentinel: RedisSentinel) -> bool:
        """Whether a sentinel would find a replica to promote, and a quorum."""
        master = _pairs(sentinel.cli("SENTINEL", "MASTER", "main"))
        answer = sentinel.cli("SENTINEL", "REPLICAS", "main")
        return (
            master["flags"] == "master"
            and int(master["num-slaves"]) == len(self.servers) - 1
            and int(master["num-other-sentinels"]) == len(self.sentinels) - 1
            and answer.split("\n").count("master-link-status") == len(self.servers) - 1
            and answer.split("\n").count("ok") == len(self.servers) - 1
        )


def _pairs(listing: str) -> dict[str, str]:
    words = listing.split("\n")
    return dict(zip(words[::2], words[1::2], strict=False))


def _owner_port(listing: str, slot: int) -> int | None:
    for line in listing.splitlines():
        _, place, flags, *rest = line.split()
        if "master" not in flags:
            continue
        for word in rest[5:]:
            first, _, last = word.partition("-")
            if not word.startswith("[") and int(first) <= slot <= int(last or first):
                return int(place.partition("@")[0].rpartition(":")[2])
    return None
