"""Processes that share a state store: nothing that was kept is lost, whoever is killed."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from server_fixtures import require

from rambla_py import Rambla
from rambla_py.state import (
    FileStore,
    HybridStore,
    MemoryStore,
    RedisStore,
    SqliteStore,
    StateAccessError,
    StateQuotaError,
    StateStore,
    StateTooLargeError,
    StateUnavailableError,
    store_from_url,
)
from rambla_py.testing import FaultProxy, RedisServer, TlsFiles
from rambla_py.testing.harness import until
from rambla_py.testing.ports import free_port
from rambla_py.testing.processes import deadline

WRITER = Path(__file__).with_name("state_writer.py")
TIMEOUT_S = 60.0
PLACES = ["sqlite:///{}/state.db", "file://{}/state"]


def writer(url: str, name: str, count: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(WRITER), url, name, count], stdout=subprocess.PIPE)


@pytest.mark.parametrize("place", PLACES)
def test_processes_that_write_at_once_lose_nothing(place: str, tmp_path: Path) -> None:
    """Three processes, forty records each and a common one: all are there, and the common one is from then."""
    url = place.format(tmp_path)
    with store_from_url(url) as store:
        first = store.set("common", "")
        writers = [writer(url, name, "40") for name in "abc"]
        assert [one.communicate(timeout=TIMEOUT_S)[0].count(b"\n") for one in writers] == [40, 40, 40]
        records = {record.key: record for record in store.get_all()}
    records.pop("shared-and-gone", None)
    assert records.keys() == {f"{name}-{number}" for name in "abc" for number in range(40)} | {"common"}
    assert all(records[f"{name}-7"].value["n"] == 7 for name in "abc")
    assert records["common"].created_at == first.created_at
    assert records["common"].updated_at > first.updated_at


def test_a_process_that_never_rests_lets_others_have_their_turn(tmp_path: Path) -> None:
    """Its file is free for moments only: another writer finds them, thousands of times within its time-out."""
    path = tmp_path / "state.db"
    with (
        SqliteStore(path, busy_timeout_s=1) as store,
        writer(f"sqlite:///{path}", "busy", "restless") as process,
    ):
        try:
            assert process.stdout is not None
            process.stdout.readline()
            for number in range(2_000):
                store.set(f"mine-{number}", number)
            assert process.poll() is None
        finally:
            process.kill()
        assert {record.value for record in store.get_all() if record.key.startswith("mine-")} == {
            *range(2_000)
        }


@pytest.mark.parametrize("place", PLACES)
def test_killed_processes_lose_nothing_that_was_kept(place: str, tmp_path: Path) -> None:
    """Writers are killed during writes: what they reported as written is there, and nothing is half written."""
    url = place.format(tmp_path)
    written = {}
    for name in "abc":
        with writer(url, name, "forever") as process:
            assert process.stdout is not None
            for _ in range(5 + ord(name) % 3):
                process.stdout.readline()
            process.kill()
            rest = process.stdout.read()
        written[name] = 5 + ord(name) % 3 + rest.count(b"\n")
    with store_from_url(url) as store:
        records = {record.key: record.value for record in store.get_all()}
        assert [
            key for name in written for n in range(written[name]) if (key := f"{name}-{n}") not in records
        ] == []
        records.pop("shared-and-gone", None)
        assert records.pop("common") in [name * 20_000 for name in written]
        assert {len(value["fill"]) for value in records.values()} == {20_000}
        assert store.set("after", 1) == store.get("after")
    left = [path.name for path in tmp_path.rglob(".new-*")]
    assert left == [], "what a killed writer had begun is removed when the folder is opened"


def test_what_a_killed_writer_had_begun_is_no_record(tmp_path: Path) -> None:
    """A file that was written aside and never moved into place: nobody reads it, and opening removes it."""
    with FileStore(tmp_path) as store:
        store.set("a", 1)
        begun = tmp_path / ".new-abc"
        begun.write_text('{"key": "a", "value"')
        assert [record.value for record in store.get_all()] == [1]
    with FileStore(tmp_path) as store:
        assert store.get_all()[0].value == 1
        assert not begun.exists()


def test_a_lock_that_is_held_bounds_the_wait(tmp_path: Path) -> None:
    """Another process holds the folder's lock: writers get an error, readers do not notice."""
    with FileStore(tmp_path, lock_timeout_s=0.05) as store, (tmp_path / ".lock").open() as lock:
        store.set("a", 1)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StateUnavailableError, match="lock_timeout_s") as caught:
            store.set("a", 2)
        assert caught.value.applied == "no"
        assert store.get_all()[0].value == 1
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert store.set("a", 3).value == 3


def test_a_database_that_is_locked_bounds_the_wait(tmp_path: Path) -> None:
    """Another process is in a long transaction: writers get an error, readers do not notice."""
    path = tmp_path / "state.db"
    with SqliteStore(path, busy_timeout_s=0.05) as store:
        store.set("a", 1)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateUnavailableError, match="busy_timeout_s") as caught:
            store.set("a", 2)
        assert caught.value.applied == "no"
        assert store.get_all()[0].value == 1
        other.close()
        assert store.set("a", 3).value == 3


def test_a_disk_that_is_full_is_reported_and_nothing_is_lost(tmp_path: Path) -> None:
    """The system refuses to write a large file: the old value stays, small ones still fit."""
    script = f"""
import resource, sys
from rambla_py.state import FileStore, StateQuotaError
with FileStore({str(tmp_path)!r}) as store:
    store.set("a", "old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        store.set_many({{"b": 1, "a": "x" * 20_000}})
    except StateQuotaError as error:
        print(error)
    print([(record.key, record.value) for record in store.get_all()])
    store.set("b", "small")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    problem, kept = done.stdout.splitlines()
    assert "is full" in problem
    assert "nothing was written" in problem
    assert kept == "[('a', 'old')]"
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".json", ".json"]


def test_a_database_that_is_full_is_reported_and_goes_on(tmp_path: Path) -> None:
    """``max_bytes`` is reached in the midst of a ``set_many``: none of it is kept, and room can be made."""
    with SqliteStore(tmp_path / "state.db", max_bytes=60_000) as store:
        store.set("a", "x" * 10_000)
        with pytest.raises(StateQuotaError, match="is full"):
            store.set_many({f"k{number}": "x" * 10_000 for number in range(20)})
        assert [record.key for record in store.get_all()] == ["a"]
        store.delete("a")
        assert store.set("b", "x" * 10_000) == store.get("b")


def test_a_value_over_the_databases_limit_is_reported(tmp_path: Path) -> None:
    """``max_value_bytes``, or SQLite's own gigabyte: nothing of the ``set_many`` is kept."""
    with SqliteStore(tmp_path / "state.db", max_value_bytes=10_000) as store:
        with pytest.raises(StateTooLargeError, match="20002 bytes; SQLite's limit of a row is 10000"):
            store.set_many({"a": 1, "b": "x" * 20_000})
        assert store.get_all() == []
        assert store.set("b", "x" * 9_000) == store.get("b")


def test_memory_that_is_full_makes_room_of_what_expired() -> None:
    """Expired records go first; then the error says which bound it was, and nothing of the write is kept."""
    clock = [100.0]
    with MemoryStore(max_records=2, max_bytes=100, clock=lambda: clock[0]) as store:
        store.set_many({"a": 1, "b": 2}, expires_s=5)
        with pytest.raises(StateQuotaError, match="max_records is 2"):
            store.set_many({"b": 3, "c": 4})
        assert [record.value for record in store.get_all()] == [1, 2]
        clock[0] += 5
        store.set_many({"c": 5, "d": 6})
        with pytest.raises(StateQuotaError, match="max_bytes is 100"):
            store.set("c", "x" * 200)
        assert [record.value for record in store.get_all()] == [5, 6]


def test_redis_without_memory_is_reported_and_the_old_value_stays() -> None:
    """``maxmemory`` is reached: a quota error, and what stood there is whole."""
    require(RedisServer)
    with RedisServer() as server, RedisStore(server.url) as store, redis.Redis.from_url(server.url) as client:
        before = store.set("a", "old", expires_s=60)
        client.config_set("maxmemory", 1)
        with pytest.raises(StateQuotaError, match="is full"):
            store.set_many({"a": "new", "b": 1})
        assert store.get_all() == [before]
        assert client.pttl("rambla:state:a") > 0
        client.config_set("maxmemory", 0)
        assert store.set("a", "new") == store.get("a")


def test_redis_that_is_silent_is_given_up_soon() -> None:
    """The first answer is waited for as long as a connection is, and not as long as those to come."""
    with FaultProxy("127.0.0.1", free_port()) as proxy:
        proxy.black_hole()
        store = RedisStore(f"redis://{proxy.host}:{proxy.port}/0", connect_timeout_s=0.2, timeout_s=60.0)
        began = time.monotonic()
        with pytest.raises(StateUnavailableError) as caught:
            store.init()
        assert time.monotonic() - began < 10.0
    assert caught.value.applied == "no"


def test_redis_expires_what_expires_and_nothing_else(redis_server: RedisServer, unique_name: str) -> None:
    """Its own clock removes a record that nobody cleans up; one that is set to stay, stays."""
    with (
        RedisStore(redis_server.url, prefix=f"{unique_name}:") as store,
        redis.Redis.from_url(redis_server.url) as client,
    ):
        store.set("a", 1, expires_s=60)
        assert 59_000 < client.pttl(f"{unique_name}:a") <= 60_001
        store.set("a", 2)
        assert client.pttl(f"{unique_name}:a") == -1
        store.set("a", 3, expires_s=0.02)
        assert until(lambda: not client.exists(f"{unique_name}:a"))
        assert store.cleanup_expired() == 0


def test_redis_over_tls_with_the_authority_and_without(
    redis_tls_server: RedisServer, tls_files: TlsFiles, unique_name: str
) -> None:
    """The URL names the authority; a certificate that is not trusted, and a wrong password, are access errors."""
    trusting = f"{redis_tls_server.url}?ssl_ca_certs={tls_files.authority}"
    with RedisStore(trusting, prefix=unique_name) as store:
        assert store.set("a", 1) == store.get("a")
    for url in (redis_tls_server.url, trusting.replace("s3cret", "canary")):
        with pytest.raises(StateAccessError) as caught:
            RedisStore(url).init()
        assert "canary" not in str(caught.value)


def test_redis_over_a_unix_socket(tmp_path: Path) -> None:
    """Where the server is on this machine; its path is the address in errors."""
    require(RedisServer)
    path = tmp_path / "redis.sock"
    with RedisServer(config=[f"unixsocket {path}"]) as server, RedisStore(f"unix://{path}?db=3") as store:
        assert store.set("a", 1) == store.get("a")
        server.kill()
        with pytest.raises(StateUnavailableError, match=str(path)) as caught:
            store.set("a", 2)
        assert caught.value.applied == "no"


def test_a_message_that_redis_has_no_memory_for_is_retried(
    redis_server: RedisServer, unique_name: str
) -> None:
    """The message waits for memory, and is then written."""
    table = {
        "state": {
            "connections": {"main": {"url": redis_server.url}},
            "channels": {"orders": {"options": {"retries": 1_000, "backoff": {"max_s": 0.02}}}},
        }
    }
    with Rambla(table) as app, redis.Redis.from_url(redis_server.url) as client:
        client.config_set("maxmemory", 1)
        try:
            receipt = app.publish("orders", {unique_name: 1})
            assert until(lambda: "is full" in str(app.status()["state.orders"].last_error))
        finally:
            client.config_set("maxmemory", 0)
        outcome = receipt.outcomes(timeout_s=TIMEOUT_S)[0]
        assert (outcome.status, outcome.result) == ("ok", 1)


@pytest.mark.parametrize("kind", ["sqlite", "memory", "hybrid"])
def test_a_child_that_is_forked_in_the_midst_of_a_write_goes_on(kind: str, tmp_path: Path) -> None:
    """Another thread is writing at that moment, and holds what it needs; the child does not wait for it."""
    path = tmp_path / "state.db"
    makers: dict[str, Callable[[], StateStore]] = {
        "sqlite": lambda: SqliteStore(path),
        "memory": MemoryStore,
        "hybrid": lambda: HybridStore(MemoryStore(), SqliteStore(path)),
    }
    with makers[kind]() as store, ThreadPoolExecutor(1) as pool:
        store.set("a", 1)
        done = threading.Event()
        writing = pool.submit(lambda: [store.set("parent", "x" * 1000) for _ in iter(done.is_set, True)])
        try:
            for _ in range(2):
                child = multiprocessing.get_context("fork").Process(target=use, args=(store,), daemon=True)
                child.start()
                child.join(10)
                if child.exitcode is None:
                    child.kill()
                assert child.exitcode == 0
        finally:
            done.set()
        assert writing.result()
        assert {"a", "parent"} <= {record.key for record in store.get_all()}
    if kind != "memory":
        with SqliteStore(path) as again:
            assert [record.key for record in again.get_all()] == ["a", "child", "parent"]


def test_what_a_child_writes_after_its_parent_closed_is_kept(tmp_path: Path) -> None:
    """The parent is the last to close, as far as it can see, and clears SQLite's log away."""
    path = tmp_path / "state.db"
    reading, telling = os.pipe()
    store = SqliteStore(path)
    store.init()
    store.set("a", 1)
    child = os.fork()
    if child == 0:
        try:
            store.set("early", 1)
            os.read(reading, 1)
            store.set("late", 1)
        finally:
            os._exit(0 if store.ready else 1)  # as after a crash: nobody closes the store
    with SqliteStore(path) as other:
        assert until(lambda: other.get("early") is not None)
    store.close()
    os.write(telling, b"!")
    os.waitpid(child, 0)
    os.close(reading)
    os.close(telling)
    with SqliteStore(path) as again:
        assert [record.key for record in again.get_all()] == ["a", "early", "late"]


def use(store: StateStore) -> None:
    assert store.get("a") is not None
    store.set("child", os.getpid())


@pytest.mark.parametrize("kind", ["sqlite", "file", "redis"])
def test_a_forked_child_uses_the_store_and_the_parent_goes_on(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The child has connections of its own: what both write is there, and neither harms the other."""
    makers: dict[str, Callable[[], StateStore]] = {
        "sqlite": lambda: SqliteStore(tmp_path / "state.db"),
        "file": lambda: FileStore(tmp_path),
        "redis": lambda: RedisStore(request.getfixturevalue("redis_server").url, prefix=f"{tmp_path.name}:"),
    }
    with makers[kind]() as store:
        store.set("a", 1)
        child = multiprocessing.get_context("fork").Process(target=use, args=(store,))
        child.start()
        for _ in deadline(TIMEOUT_S):
            store.set("parent", 1)
            if not child.is_alive():
                break
        assert child.exitcode == 0
        assert [record.key for record in store.get_all()] == ["a", "child", "parent"]


def test_without_cryptography_the_extra_is_named() -> None:
    """One line that says what to install, from the class and from a configuration; the rest works without it."""
    script = """
import sys
sys.modules["cryptography"] = None
from rambla_py.state import EncryptedStore, MemoryStore, StateError, generate_key
from rambla_py import ConfigError, load_config
with MemoryStore() as store:
    store.set("a", 1)
try:
    EncryptedStore(store, bytes(32))
except StateError as error:
    print(error)
try:
    load_config({"state": {"connections": {"a": {"encryption_key": generate_key()}}, "channels": {"c": {}}}})
except ConfigError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.count("pip install 'rambla-py[crypto]'") == 2
