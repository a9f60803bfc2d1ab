"""Three nodes of RabbitMQ with a replicated queue, whose leader is killed again and again."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rambla_py.testing.ports import HOST, free_port
from rambla_py.testing.processes import deadline, end_group, guard
from rambla_py.testing.servers import RabbitMqServer
from soak.runs import Process, Run, SoakError, run_of
from soak.targets import held_by

__all__ = ["Cluster", "kill_leaders"]

_NAMES = tuple(f"soak{number}@localhost" for number in range(3))
_PEERS = tuple(f"cluster_formation.classic_config.nodes.{at} = {name}" for at, name in enumerate(_NAMES, 1))
_READY_S = 60.0


class _Node(RabbitMqServer):
    """One node; the port mapper and the secret of all of them are the cluster's."""

    def __init__(self, name: str, home: Path, epmd_port: int) -> None:
        super().__init__(config=("cluster_formation.peer_discovery_backend = classic_config", *_PEERS))
        self._node, self._home, self._epmd_port = name, home, epmd_port

    def _start_companions(self) -> None:
        """The cluster has started them."""

    def _environment(self) -> Mapping[str, str]:
        return {**super()._environment(), "HOME": str(self._home)}


class Cluster:
    """Three nodes on loopback, each with its own ports and folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._epmd_port = folder, free_port()
        self.nodes = {name: _Node(name, folder, self._epmd_port) for name in _NAMES}
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        cookie = self._folder / ".erlang.cookie"
        cookie.write_text("SOAKSOAKSOAKSOAK")
        cookie.chmod(0o400)
        command = ["epmd", "-port", str(self._epmd_port), "-address", HOST]
        epmd = subprocess.Popen(command, start_new_session=True)
        self._processes = [guard(epmd.pid), epmd]
        for node in self.nodes.values():  # one by one: each joins those that run already
            node.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes.values():
            node.close()
        for process in self._processes:
            end_group(process, signal.SIGKILL)

    @property
    def urls(self) -> list[str]:
        """The addresses of the nodes."""
        return [node.url for node in self.nodes.values()]

    def leader(self) -> str:
        """Return the node that leads the queue, once all of its replicas are there."""
        for _ in deadline(_READY_S, poll_s=0.5):
            node = next(node for node in self.nodes.values() if node.running)
            text = node.rabbitmqctl("list_queues", "--formatter", "json", "name", "leader", "online")
            for queue in json.loads(text):
                if len(queue["online"]) == len(_NAMES):
                    return str(queue["leader"])
        raise SoakError("the replicas of the queue did not come back")


def kill_leaders(folder: Path, kills: int, seconds: float) -> Run:
    """Kill the leader of the queue so many times while a process publishes; then deliver what is left."""
    folder.mkdir()
    home = folder / "cluster"
    home.mkdir()
    with Cluster(home) as cluster:
        process = Process(folder, json.dumps(_config(folder, cluster.urls)))
        process.start()
        for _ in range(kills):
            leader = cluster.nodes[cluster.leader()]
            leader.kill()
            time.sleep(seconds / kills)
            leader.start()
        cluster.leader()
        process.stop()
        process.drain()
        return run_of(folder, process, held_by(cluster.urls[0]), kills, None)


def _config(folder: Path, urls: list[str]) -> dict[str, object]:
    queue = {"name": "soak", "arguments": {"x-queue-type": "quorum"}}
    options = {
        "routing_key": "soak",
        "declare": {"queue": queue},
        "retries": 1_000_000,
        "backoff": {"max_s": 1.0},
    }
    channel = {
        "connection": "here",
        "durable": True,
        "attempt_timeout_s": 5.0,
        "max_reconnect_s": 1.0,
        "options": options,
    }
    return {
        "rambla": {"outbox": {"url": f"sqlite:///{folder / 'outbox.db'}"}},
        "amqp": {
            "connections": {"here": {"urls": urls, "connect_timeout_s": 2.0}},
            "channels": {"orders": channel},
        },
    }
