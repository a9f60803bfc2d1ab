"""Clients of a Redis server, a cluster, or a master named by sentinels; for threads and for event loops."""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from rambla_py._internal.redis_urls import Node, parts_of

__all__ = ["RedisClients"]

_PARAMETERS = frozenset(
    {
        "client_name", "health_check_interval", "max_connections", "protocol", "socket_keepalive",
        "ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile",
        "ssl_min_version",
    }
)  # fmt: skip


class RedisClients:
    """What a URL names: one client for all threads, and one for each event loop, each made when needed.

    ``where`` is the server's name for messages, without credentials. No command is repeated automatically.
    Raises ``ValueError``, which quotes nothing of the URL.
    """

    def __init__(self, url: str, *, connect_timeout_s: float, timeout_s: float) -> None:
        self._parts = parts_of(url, parameters=_PARAMETERS)
        self.is_cluster = self._parts.kind == "cluster"
        known = dict(self._parts.known)
        has_tls = known.pop("connection_class", None) is redis.connection.SSLConnection
        self._database = known.pop("db", 0)
        if self.is_cluster and self._database:
            raise ValueError("a redis url with a database other than 0, which a cluster does not have")
        address = ("host", "port", "path")
        self._address: dict[str, Any] = {name: known.pop(name) for name in address if name in known}
        self._timeouts = {"socket_connect_timeout": connect_timeout_s, "socket_timeout": timeout_s}
        self._options: dict[str, Any] = known | ({"ssl": True} if has_tls else {})
        self.where = f"redis at {self._shown_address()}"
        self._blocking: Any = None
        self._owner = os.getpid()
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()

    def blocking(self) -> Any:
        """Return the client for threads; one of a cluster connects."""
        if self._blocking is None:
            self._blocking = self.make()
        return self._blocking

    def asynchronous(self) -> Any:
        """Return the client of the running event loop."""
        if self._owner != os.getpid():  # a forked child must not write to its parent's connections
            self._owner, self._by_loop = os.getpid(), weakref.WeakKeyDictionary()
        loop = asyncio.get_running_loop()
        if loop not in self._by_loop:
            self._by_loop[loop] = self.make_async()
        return self._by_loop[loop]

    def make(self, *, timeout_s: float | None = None) -> Any:
        """Return another client for threads; ``timeout_s`` replaces the time-out of an answer."""
        return self._make(redis, Retry(NoBackoff(), 0), timeout_s)

    def make_async(self, *, timeout_s: float | None = None) -> Any:
        """Return another client for the running event loop."""
        return self._make(redis.asyncio, redis.asyncio.retry.Retry(NoBackoff(), 0), timeout_s)

    def close(self) -> None:
        """Close the client for threads, and make running event loops close theirs."""
        blocking, self._blocking = self._blocking, None
        if blocking is not None:
            self.close_one(blocking)
        by_loop, self._by_loop = dict(self._by_loop), weakref.WeakKeyDictionary()
        for loop, client in by_loop.items():
            if loop.is_running():  # a loop that ended has closed its sockets
                asyncio.run_coroutine_threadsafe(self.aclose_one(client), loop)

    async def aclose(self) -> None:
        """Close the client of the running event loop, and the others as ``close`` does."""
        client = self._by_loop.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await self.aclose_one(client)
        self.close()

    def close_one(self, client: Any) -> None:
        """Close a client of ``make``, and its connections to sentinels."""
        client.close()
        for sentinel in self._sentinels_of(client):
            sentinel.close()

    async def aclose_one(self, client: Any) -> None:
        """Close a client of ``make_async``, and its connections to sentinels."""
        await client.aclose()
        for sentinel in self._sentinels_of(client):
            await sentinel.aclose()

    def _make(self, library: Any, retry: Any, timeout_s: float | None) -> Any:
        timeouts = self._timeouts if timeout_s is None else {**self._timeouts, "socket_timeout": timeout_s}
        options = {**self._options, **timeouts, "retry": retry}
        if self.is_cluster:
            nodes = [library.cluster.ClusterNode(node.host, node.port) for node in self._parts.nodes]
            return library.RedisCluster(startup_nodes=nodes, **options)
        options["db"] = self._database
        if self._parts.kind == "sentinel":
            login = ("username", "password")
            ours = {name: value for name, value in options.items() if name not in (*login, "db")}
            found = library.sentinel.Sentinel(
                [tuple(node) for node in self._parts.nodes], sentinel_kwargs=ours
            )
            return found.master_for(self._parts.master, **options)
        path = self._address.get("path")
        place = self._address if path is None else {"unix_socket_path": path}
        return library.Redis(**place, **options)

    def _sentinels_of(self, client: Any) -> list[Any]:
        if self._parts.kind != "sentinel":
            return []
        return list(client.connection_pool.sentinel_manager.sentinels)

    def _shown_address(self) -> str:
        address, database = self._address, self._database
        if self.is_cluster:
            return f"cluster {', '.join(map(str, self._parts.nodes))}"
        if self._parts.kind == "sentinel":
            return f"master {self._parts.master!r} of {', '.join(map(str, self._parts.nodes))}, {database}"
        node = Node(address.get("host", "localhost"), address.get("port", 6379))
        return f"{address.get('path') or node}/{database}"
