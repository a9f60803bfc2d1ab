"""This module holds every state store to the contract, on real files, databases and servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

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
from rambla_py.testing import FakeClock, RedisServer, StateContract
from rambla_py.testing.ports import HOST, free_port
from rambla_py.testing.trial import until

Clock = Callable[[], float]
KEY = bytes(range(32))


class TestMemory(StateContract):
    """Records that end with the object."""

    shared = durable = False

    def make(self, clock: Clock) -> StateStore:
        return MemoryStore(clock=clock)


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
    def make(self, clock: Clock) -> StateStore:
        return FileStore(self.folder / "state", clock=clock)

    @pytest.mark.parametrize("mend", [lambda store: store.set("a", 2), lambda store: store.delete("a")])
    def test_a_damaged_record_can_be_replaced(self, mend: Callable[[StateStore], Any]) -> None:
        """Who reads a file without content is told; it can be written anew and removed, and swept around."""
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
    def make(self, clock: Clock) -> StateStore:
        return SqliteStore(self.folder / "state.db", clock=clock, synchronous="normal")


class Redis(StateContract):
    """What the stores in Redis share."""

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer, unique_name: str) -> None:
        self.url, self.prefix = redis_server.url, f"{unique_name}:"

    def redis(self, clock: Clock) -> StateStore:
        return RedisStore(self.url, prefix=self.prefix, clock=clock)


class TestRedis(Redis):
    def make(self, clock: Clock) -> StateStore:
        return self.redis(clock)


class ServedStore:
    """A store behind a server of this process, which goes by the clock of the test that asks."""

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
    def make(self, clock: Clock) -> StateStore:
        return self.http(clock)


class TestHybridOverSqlite(Folder):
    shared = False

    def make(self, clock: Clock) -> StateStore:
        return HybridStore(MemoryStore(clock=clock), SqliteStore(self.folder / "state.db", clock=clock))


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
    def make(self, clock: Clock) -> StateStore:
        return EncryptedStore(
            FileStore(self.folder, fsync=False, clock=clock), {"new": KEY, "old": KEY[::-1]}
        )


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
