"""Contract tests of every state store, on real files, databases and servers."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import uvicorn
from server_fixtures import require

from rambla_py.state import (
    EncryptedStore,
    FileStore,
    HttpStore,
    HybridStore,
    MemoryStore,
    RedisStore,
    SqliteStore,
    StateCorruptError,
    StateStore,
)
from rambla_py.state.server import state_app
from rambla_py.testing import (
    FakeClock,
    FaultProxy,
    RedisCluster,
    RedisServer,
    StateContract,
    WatchedRedis,
)
from rambla_py.testing.harness import until
from rambla_py.testing.ports import HOST, free_port
from rambla_py.testing.redis_groups import RedisSentinel

Clock = Callable[[], float]
KEY = bytes(range(32))


class TestMemory(StateContract):
    """Records that end with the object; only room can fail."""

    shared = durable = False

    def make(self, clock: Clock) -> StateStore:
        return MemoryStore(clock=clock)

    @contextmanager
    def full(self, clock: Clock) -> Iterator[StateStore]:
        with MemoryStore(clock=clock, max_bytes=1_000) as store:
            store.set("a", 1)
            yield store


class TestNamedMemory(StateContract):
    """Records of this process, shared by name."""

    @pytest.fixture(autouse=True)
    def _name(self, unique_name: str) -> None:
        self.name = unique_name

    def make(self, clock: Clock) -> StateStore:
        return MemoryStore(self.name, clock=clock)


class Folder(StateContract):
    """What the stores on disk share."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path


class TestFile(Folder):
    """Broken: the folder is gone. A full disk is in test_state_processes."""

    def make(self, clock: Clock) -> StateStore:
        return FileStore(self.folder / "state", clock=clock)

    @contextmanager
    def broken(self, clock: Clock) -> Iterator[StateStore]:
        with self.make(clock) as store:
            store.set("a", 1)
            shutil.rmtree(self.folder / "state")
            yield store

    @pytest.mark.parametrize("mend", [lambda store: store.set("a", 2), lambda store: store.delete("a")])
    def test_a_damaged_record_can_be_replaced(self, mend: Callable[[StateStore], Any]) -> None:
        """A file without content raises when it is read; it can be replaced and removed, and does not stop a cleanup."""
        clock = FakeClock()
        with FileStore(self.folder / "state", clock=clock) as store:
            store.set_many({"a": 1, "b": 1}, expires_s=1)
            (damaged,) = (self.folder / "state").glob("a-*")
            damaged.write_bytes(b"")
            for read in (lambda: store.get("a"), store.get_all):
                with pytest.raises(StateCorruptError):
                    read()
            clock.advance(1)
            assert store.cleanup_expired() == 1
            assert mend(store)
            assert [record.value for record in store.get_all()] in ([2], [])


class TestSqlite(Folder):
    """Broken: another process holds the lock."""

    def make(self, clock: Clock) -> StateStore:
        return SqliteStore(self.folder / "state.db", clock=clock, synchronous="normal")

    @contextmanager
    def broken(self, clock: Clock) -> Iterator[StateStore]:
        path = self.folder / "state.db"
        with (
            SqliteStore(path, clock=clock, busy_timeout_s=0.02) as store,
            closing(sqlite3.connect(path, isolation_level=None)) as other,
        ):
            store.set("a", 1)
            other.execute("BEGIN IMMEDIATE")
            yield store

    @contextmanager
    def full(self, clock: Clock) -> Iterator[StateStore]:
        with SqliteStore(self.folder / "state.db", clock=clock, max_bytes=40_000) as store:
            store.set("a", 1)
            yield store


class Redis(StateContract):
    """What the stores in Redis share: a database of their own, as each listing scans all keys of one."""

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer, unique_name: str) -> None:
        self.url, self.prefix = f"redis://{redis_server.host}:{redis_server.port}/1", f"{unique_name}:"
        with redis.Redis.from_url(self.url) as client:
            client.flushdb()

    def redis(self, clock: Clock) -> StateStore:
        return RedisStore(self.url, prefix=self.prefix, clock=clock)


class TestRedis(Redis):
    """Broken: nothing answers any more, behind a fault proxy. Full: Redis has no memory left."""

    @pytest.fixture(autouse=True)
    def _proxy(
        self, redis_server: RedisServer, fault_proxy: Callable[..., FaultProxy], _server: None
    ) -> None:
        self.server, self.proxy = redis_server, fault_proxy(redis_server)

    def make(self, clock: Clock) -> StateStore:
        return self.redis(clock)

    @contextmanager
    def broken(self, clock: Clock) -> Iterator[StateStore]:
        url = f"redis://{self.proxy.host}:{self.proxy.port}/1"
        with RedisStore(url, prefix=self.prefix, clock=clock, timeout_s=0.1, connect_timeout_s=2) as store:
            store.set("a", 1)
            self.proxy.black_hole()
            yield store

    @contextmanager
    def full(self, clock: Clock) -> Iterator[StateStore]:
        with self.make(clock) as store, closing(redis.Redis.from_url(self.url)) as admin:
            store.set("a", 1)
            admin.config_set("maxmemory", admin.info("memory")["used_memory"] + 2_000_000)
            try:
                yield store
            finally:
                admin.config_set("maxmemory", 0)


class TestRedisCluster(StateContract):
    """Records in slots of three masters."""

    @pytest.fixture(autouse=True)
    def _server(self, redis_cluster: RedisCluster, unique_name: str) -> None:
        self.url = f"redis+cluster://{','.join(redis_cluster.addresses)}"
        self.prefix = f"{unique_name}:"

    def make(self, clock: Clock) -> StateStore:
        return RedisStore(self.url, prefix=self.prefix, clock=clock)


@pytest.fixture(scope="module")
def watched() -> Iterator[WatchedRedis]:
    require(RedisSentinel)
    with WatchedRedis() as found:
        yield found


class TestRedisSentinel(StateContract):
    """Records on the master that sentinels name."""

    @pytest.fixture(autouse=True)
    def _server(self, watched: WatchedRedis, unique_name: str) -> None:
        self.url = f"redis+sentinel://{','.join(watched.addresses)}/main/2"
        self.prefix = f"{unique_name}:"

    def make(self, clock: Clock) -> StateStore:
        return RedisStore(self.url, prefix=self.prefix, clock=clock)


class TestNamespace(Folder):
    """The records of a store under a name."""

    max_key_bytes = 1024 - len("carts:")

    def make(self, clock: Clock) -> StateStore:
        store = SqliteStore(self.folder / "state.db", clock=clock, synchronous="normal")
        return store.namespace("carts")


class TestNamespaceOfRedis(Redis):
    max_key_bytes = 1024 - len("carts:")

    def make(self, clock: Clock) -> StateStore:
        return self.redis(clock).namespace("carts")


class ServedStore:
    """A store behind a server of this process, with the clock of the current test."""

    def __init__(self) -> None:
        self.clock: Clock = time.time
        self.store = MemoryStore(clock=lambda: self.clock())
        self.url = ""


@pytest.fixture(scope="module")
def served() -> Iterator[ServedStore]:
    given = ServedStore()
    with serving(given.store) as given.url:
        yield given


class Served(StateContract):
    """What the stores behind a server share."""

    @pytest.fixture(autouse=True)
    def _server(self, served: ServedStore) -> None:
        served.store.clear()
        self.served = served

    def http(self, clock: Clock) -> StateStore:
        self.served.clock = clock
        return HttpStore(self.served.url, token="s3cret")


class TestHttp(Served):
    """Broken: nothing answers any more, behind a fault proxy. Full: the server's store is."""

    @pytest.fixture(autouse=True)
    def _proxy(self, served: ServedStore, fault_proxy: Callable[..., FaultProxy], _server: None) -> None:
        address = urlsplit(served.url)
        self.proxy = fault_proxy(SimpleNamespace(host=address.hostname, port=address.port))

    def make(self, clock: Clock) -> StateStore:
        return self.http(clock)

    @contextmanager
    def broken(self, clock: Clock) -> Iterator[StateStore]:
        url = f"http://{self.proxy.host}:{self.proxy.port}"
        with HttpStore(url, token="s3cret", timeout_s=0.1, connect_timeout_s=1.0) as store:
            store.set("a", 1)
            self.proxy.black_hole()
            yield store

    @contextmanager
    def full(self, clock: Clock) -> Iterator[StateStore]:
        with (
            serving(MemoryStore(clock=clock, max_bytes=1_000)) as url,
            HttpStore(url, token="s3cret") as store,
        ):
            store.set("a", 1)
            yield store


class TestHybridOverSqlite(Folder):
    """Broken: another process holds the lock of the back."""

    shared = False

    def make(self, clock: Clock) -> StateStore:
        return HybridStore(MemoryStore(clock=clock), SqliteStore(self.folder / "state.db", clock=clock))

    @contextmanager
    def broken(self, clock: Clock) -> Iterator[StateStore]:
        path = self.folder / "state.db"
        back = SqliteStore(path, clock=clock, busy_timeout_s=0.02)
        with (
            HybridStore(MemoryStore(clock=clock), back) as store,
            closing(sqlite3.connect(path, isolation_level=None)) as other,
        ):
            store.set("a", 1)
            other.execute("BEGIN IMMEDIATE")
            yield store

    @contextmanager
    def full(self, clock: Clock) -> Iterator[StateStore]:
        back = MemoryStore(clock=clock, max_bytes=1_000)
        with HybridStore(MemoryStore(clock=clock), back) as store:
            store.set("a", 1)
            yield store


class TestHybridWithoutRoomOverFile(Folder):
    """A front that holds two records of many: the rest is read from the back."""

    shared = False

    def make(self, clock: Clock) -> StateStore:
        front = MemoryStore(clock=clock, max_records=2)
        return HybridStore(front, FileStore(self.folder, fsync=False, clock=clock))


class TestHybridOverRedis(Redis):
    shared = False

    def make(self, clock: Clock) -> StateStore:
        return HybridStore(MemoryStore(clock=clock), self.redis(clock))


class TestHybridOverHttp(Served):
    shared = False

    def make(self, clock: Clock) -> StateStore:
        return HybridStore(MemoryStore(clock=clock), self.http(clock))


class TestHybridOverMemory(StateContract):
    shared = durable = False

    def make(self, clock: Clock) -> StateStore:
        return HybridStore(MemoryStore(clock=clock), MemoryStore(clock=clock))


class TestEncryptedMemory(StateContract):
    shared = durable = False

    def make(self, clock: Clock) -> StateStore:
        return EncryptedStore(MemoryStore(clock=clock), KEY)


class TestEncryptedFile(Folder):
    """Broken: the folder of the inner store is gone."""

    def make(self, clock: Clock) -> StateStore:
        inner = FileStore(self.folder / "state", fsync=False, clock=clock)
        return EncryptedStore(inner, {"new": KEY, "old": KEY[::-1]})

    @contextmanager
    def broken(self, clock: Clock) -> Iterator[StateStore]:
        with self.make(clock) as store:
            store.set("a", 1)
            shutil.rmtree(self.folder / "state")
            yield store

    @contextmanager
    def full(self, clock: Clock) -> Iterator[StateStore]:
        with EncryptedStore(MemoryStore(clock=clock, max_bytes=1_000), KEY) as store:
            store.set("a", 1)
            yield store


class TestEncryptedSqlite(Folder):
    def make(self, clock: Clock) -> StateStore:
        store = SqliteStore(self.folder / "state.db", clock=clock, synchronous="normal")
        return EncryptedStore(store, KEY)


class TestEncryptedRedis(Redis):
    def make(self, clock: Clock) -> StateStore:
        return EncryptedStore(self.redis(clock), KEY)


class TestEncryptedHttp(Served):
    def make(self, clock: Clock) -> StateStore:
        return EncryptedStore(self.http(clock), KEY)


class TestEncryptedHybrid(Folder):
    """Both stores hold what is encrypted."""

    shared = False

    def make(self, clock: Clock) -> StateStore:
        back = SqliteStore(self.folder / "state.db", clock=clock, synchronous="normal")
        return EncryptedStore(HybridStore(MemoryStore(clock=clock), back), KEY)


@contextmanager
def serving(store: StateStore) -> Iterator[str]:
    """Serve a store from a thread of this process."""
    port = free_port()
    app = state_app(store, token="s3cret")
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=port, log_level="error", lifespan="off"))
    with store:
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            assert until(lambda: server.started)
            yield f"http://{HOST}:{port}"
        finally:
            server.should_exit = True
            thread.join(10)
