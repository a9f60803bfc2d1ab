"""What is special about the state handler: records, expiry, keys, and what becomes of a store's errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rambla_py import ConfigError, Message, PermanentError, Rambla, load_config
from rambla_py.state import (
    EncryptedStore,
    FileStore,
    MemoryStore,
    SqliteStore,
    StateDecryptError,
    forget_memory,
    generate_key,
    parse_keys,
)

TIMEOUT_S = 20.0


def app(url: str, options: dict[str, Any] | None = None, *, count: int = 1, **connection: Any) -> Rambla:
    quick = {"retries": 1, "backoff": {"initial_s": 0.01}}
    channel = {"count": count, "batch_size": 1 if count > 1 else 500}
    return Rambla(
        {
            "state": {
                "connections": {"main": {"url": url, **connection}},
                "channels": {"carts": {**channel, "options": {**quick, **(options or {})}}},
            }
        }
    )


def test_each_key_of_a_mapping_is_a_record(tmp_path: Path) -> None:
    """With the channel's prefix and expiry; a message may give its own. The result counts them."""
    with app(f"sqlite:///{tmp_path}/s.db", {"prefix": "cart:", "ttl_s": 60}) as running:
        receipt = running.publish_many(
            "carts",
            [{"a": [1], "b": None}, Message({"c": 3}, ttl_s=90), Message({"d": 4}, prefix="other:")],
        )
        assert receipt.result(timeout_s=TIMEOUT_S) == [2, 1, 1]
    with SqliteStore(tmp_path / "s.db") as store:
        found = [(r.key, r.value, round(r.expires_at - r.updated_at, 3)) for r in store.get_all()]
        assert found == [("cart:a", [1], 60), ("cart:b", None, 60), ("cart:c", 3, 90), ("other:d", 4, 60)]


def test_the_last_value_of_a_key_stays_and_its_creation_is_the_first(tmp_path: Path) -> None:
    """In a batch as one by one, also where expiries differ."""
    with app(f"file://{tmp_path}") as running:
        running.publish("carts", {"a": 0}).result(timeout_s=TIMEOUT_S)
        between = time.time()
        messages = [Message({"a": n}, ttl_s=60 + n % 3) for n in range(1, 30)]
        running.publish_many("carts", messages).result(timeout_s=TIMEOUT_S)
    with FileStore(tmp_path) as store:
        record = store.get("a")
    assert (record.value, record.created_at < between) == (29, True)


def test_text_that_holds_an_object_is_read_when_asked(tmp_path: Path) -> None:
    """``format = "object"``; without it a string is no mapping."""
    with app("memory://", {"retries": 0}) as running:
        assert running.publish("carts", '{"a": 1}', format="object").result(timeout_s=TIMEOUT_S) == 1
        assert running.publish("carts", '{"a": 1}').outcomes(timeout_s=TIMEOUT_S)[0].status == "fatal"


def test_memory_without_a_name_is_the_apps_own() -> None:
    """Its workers share it; a callable is given the store; another app has another one."""

    both = threading.Barrier(2)

    def write(*, source: Any, destination: Any, options: Any) -> Any:
        both.wait(TIMEOUT_S)  # each of the two workers is in one of the two calls
        destination.set(threading.current_thread().name, 1)

    def read(*, source: Any, destination: Any, options: Any) -> Any:
        return [record.value for record in destination.get_all()]

    with app("memory://", count=2) as one, app("memory://") as two:
        one.publish_many("carts", [write, write]).result(timeout_s=TIMEOUT_S)
        assert one.publish("carts", read).result(timeout_s=TIMEOUT_S) == [1, 1]
        assert two.publish("carts", read).result(timeout_s=TIMEOUT_S) == []


def test_memory_with_a_name_is_read_from_outside(request: pytest.FixtureRequest) -> None:
    """By a store of that name, also after the app has stopped; until it is forgotten."""
    name = request.node.name
    with app(f"memory://{name}") as running:
        running.publish("carts", {"a": 1}).result(timeout_s=TIMEOUT_S)
    with MemoryStore(name) as store:
        assert store.get("a").value == 1
    forget_memory(name)
    with MemoryStore(name) as store:
        assert store.get_all() == []


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ([1], "takes a mapping of keys to values as payload, got list"),
        ({}, "an empty mapping"),
        ({1: 2}, "takes strings as keys, got int"),
        ({"": 1}, "expected 1 to 1024 bytes, got 0"),
        ({"a": 1, "b\0": 2}, "NUL"),
        ({"a": {"b": [object()]}}, "$.a.b[0]"),
    ],
)
def test_what_is_no_record_is_fatal_at_once_and_writes_nothing(payload: Any, problem: str) -> None:
    """The error says what was expected; of a mapping nothing is kept."""
    with app("memory://", {"retries": 5}) as running:
        outcome = running.publish("carts", payload).outcomes(timeout_s=TIMEOUT_S)[0]
        assert (outcome.status, outcome.attempts) == ("fatal", 1)
        assert isinstance(outcome.error, PermanentError)
        assert problem in str(outcome.error)
        count = running.publish("carts", lambda **given: len(given["destination"].get_all()))
        assert count.result(timeout_s=TIMEOUT_S) == 0


class Odd(Mapping[str, Any]):
    """A mapping that cannot be read."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("no items today")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no items today")

    def __len__(self) -> int:
        return 1


def test_a_mapping_that_raises_fails_alone() -> None:
    """Its error is its own; the messages around it are written."""
    with app("memory://", {"retries": 0}) as running:
        receipt = running.publish_many("carts", [{"a": 1}, Odd(), {"b": 2}])
        outcomes = receipt.outcomes(timeout_s=TIMEOUT_S)
    assert [outcome.status for outcome in outcomes] == ["ok", "fatal", "ok"]
    assert str(outcomes[1].error) == "no items today"


def test_values_are_encrypted_with_a_key(tmp_path: Path) -> None:
    """The key is read with its old ones, shows nowhere, and nobody reads the values without it."""
    key = generate_key()
    with app(f"sqlite:///{tmp_path}/s.db", encryption_key=f"2026:{key} 2025:{generate_key()}") as running:
        running.publish("carts", {"a": "plain"}).result(timeout_s=TIMEOUT_S)
        assert key not in repr(running.config) + str(running.plan) + repr(running.status())
    with EncryptedStore(SqliteStore(tmp_path / "s.db"), parse_keys(f"2026:{key}")) as store:
        assert store.get("a").value == "plain"
        assert store.store.get("a").value["key_id"] == "2026"
    with (
        EncryptedStore(SqliteStore(tmp_path / "s.db"), parse_keys(generate_key())) as store,
        pytest.raises(StateDecryptError),
    ):
        store.get("a")


@pytest.mark.parametrize(
    "connection",
    [
        {"url": "postgres://u:canary@h/db"},
        {"url": "http://u:canary@host"},
        {"url": "redis://u:can/ary@host:x"},
        {"url": "memory://a", "encryption_key": "canary"},
        {"url": "memory://a", "token": "canary"},
        {"url": "memory://a", "ca_file": "a.pem"},
    ],
)
def test_a_wrong_connection_is_refused_when_it_is_read(connection: dict[str, Any]) -> None:
    """With its path, and without what is secret in it."""
    with pytest.raises(ConfigError) as caught:
        load_config({"state": {"connections": {"main": connection}, "channels": {"carts": {}}}})
    assert "state.connections.main" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_file_that_is_no_database_takes_the_channel_down(tmp_path: Path) -> None:
    """A person has to look at it: nothing of it is overwritten, and messages wait."""
    path = tmp_path / "notes.txt"
    path.write_text("these are notes, and no database\n" * 100)
    with app(f"sqlite:///{path}", {"expires_s": 0.3}) as running:
        receipt = running.publish("carts", {"a": 1})
        assert receipt.outcomes(timeout_s=TIMEOUT_S)[0].status == "expired"
        assert "damaged, or was not written by rambla_py" in str(running.status()["state.carts"].last_error)
    assert path.read_text().startswith("these are notes")


def test_a_connection_gives_its_store_options(tmp_path: Path) -> None:
    """By keys of the table, and by ``store_options`` for the others; expired records are then removed."""
    given = {"cleanup_every_s": 1e-9, "store_options": {"synchronous": "normal"}}
    with app(f"sqlite:///{tmp_path}/s.db", {"ttl_s": 0.001}, **given) as running:
        for key in "ab":
            running.publish("carts", {key: 1}).result(timeout_s=TIMEOUT_S)
        last = running.publish("carts", {"c": 1}, ttl_s=60)
        last.result(timeout_s=TIMEOUT_S)
    with SqliteStore(tmp_path / "s.db") as store:
        assert ("a" in store.get_many("abc"), "c" in store.get_many("abc")) == (False, True)


def test_a_store_class_is_named_in_the_connection() -> None:
    """``module:Class``, whatever the scheme of the url is."""
    with app("anything://", store="rambla_py.state:MemoryStore") as running:
        assert running.publish("carts", {"a": 1}).result(timeout_s=TIMEOUT_S) == 1


@pytest.mark.parametrize(
    ("connection", "reason"),
    [
        ({"url": "memory://", "token": "canary"}, "token, which MemoryStore does not take; it takes"),
        ({"url": "sqlite:///s.db", "timeout_s": 1}, "timeout_s, which SqliteStore does not take"),
        ({"url": "memory://", "store_options": {"max_recrods": 1}}, "max_recrods, which MemoryStore"),
        ({"url": "memory://", "cleanup_every_s": 1, "store_options": {"cleanup_every_s": 2}}, "give it once"),
        ({"url": "memory://", "store": "rambla_py.state:Nothing"}, "has no 'Nothing'"),
        (
            {"url": "memory://", "store": "rambla_py:Rambla"},
            "expected a subclass of rambla_py.state.StateStore",
        ),
        ({"url": "redsi://h"}, "did you mean redis://"),
        ({"url": "redis+cluster://a,b/3"}, "which a cluster does not have"),
    ],
)
def test_an_option_that_the_store_does_not_take_is_refused(connection: dict[str, Any], reason: str) -> None:
    """When the configuration is read, with what the store takes."""
    with pytest.raises(ConfigError) as caught:
        load_config({"state": {"connections": {"main": connection}, "channels": {"carts": {}}}})
    assert reason in str(caught.value)
    assert "canary" not in str(caught.value)
