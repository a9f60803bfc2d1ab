"""The contract suite on the redis handler, on a real server behind a fault proxy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from proxied_contract import KilledContract
from redis_fixtures import announce
from variants import variant_of

from rambla_py.message import Message
from rambla_py.testing import CANARY, FaultProxy, Received, RedisServer, Server, TlsFiles
from rambla_py.testing.contract_tests.delivery import DeliveryTests
from rambla_py.testing.contract_tests.failures import FailureTests
from rambla_py.testing.contract_tests.losses import LossTests
from rambla_py.testing.contract_tests.payloads import PayloadTests
from rambla_py.testing.contract_tests.surrogates import SurrogateTests
from rambla_py.testing.redis_groups import RedisClusterNode


class Redis(KilledContract):
    """What the commands share."""

    handler = "redis"

    @pytest.fixture(autouse=True)
    def _server(
        self,
        redis_server: RedisServer,
        fault_proxy: Callable[[Server], FaultProxy],
        unique_name: str,
        tls_files: Any,
    ) -> Iterator[None]:
        self.proxy, self.key = fault_proxy(redis_server), unique_name
        self.server, self.tls_files = redis_server, tls_files
        with redis.Redis.from_url(redis_server.url) as self.client:
            self.client.flushdb()  # other tests leave keys in the run's server, and this one asks for all
            yield

    def connection(self) -> dict[str, Any]:
        return {"host": self.proxy.host, "port": self.proxy.port}

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {"host": host, "port": port, "connect_timeout_s": 0.5}

    def impatient(self) -> dict[str, Any]:
        return {**super().impatient(), "read_timeout_s": 2.0}  # longer than an attempt, shorter than a test

    def wrong_password(self) -> dict[str, Any]:
        return {"url": f"redis://somebody:{CANARY}@{self.proxy.host}:{self.proxy.port}/0"}

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return {"url": f"redis://somebody:{CANARY}@{host}:{port}/0", "connect_timeout_s": 0.5}

    def too_large(self) -> tuple[dict[str, Any], Any]:
        return {**self.connection(), "max_bulk_bytes": 10_000}, self.big_payload("x" * 10_001)

    def big_payload(self, text: str) -> Any:
        return text


class TestRedisStream(Redis):
    """Each message is an entry of a stream, with its id in a field."""

    carries_events = True

    @pytest.fixture(autouse=True)
    def _tls(self, redis_tls_server: RedisServer) -> None:
        self.tls_server = redis_tls_server

    def wrong_name(self) -> dict[str, Any]:
        tls = {"ca_file": str(self.tls_files.authority), "server_name": "elsewhere.invalid"}
        return {"host": "127.0.0.1", "port": self.tls_server.port, "password": "s3cret", "tls": tls}

    def options(self) -> dict[str, Any]:
        return {"command": "xadd", "stream": self.key}

    def is_result(self, result: Any) -> bool:
        return isinstance(result, str) and "-" in result

    def received(self) -> list[Received]:
        entries: Any = self.client.xrange(self.key)
        texts = [
            {name.decode(): value.decode("utf-8", "replace") for name, value in e.items()} for _, e in entries
        ]
        return [
            Received(fields[b"payload"], text["id"], text)
            for (_, fields), text in zip(entries, texts, strict=True)
        ]

    def poison(self) -> Message:
        self.client.set(f"{self.key}-text", "no stream")
        return Message("poison", stream=f"{self.key}-text")


@variant_of(TestRedisStream, DeliveryTests, PayloadTests, LossTests)
class TestRedisList(Redis):
    """Each message is pushed to a list, which has no place for an id."""

    carries_events = True

    carries_ids = can_silence = False  # the wire is that of the stream

    def options(self) -> dict[str, Any]:
        return {"command": "rpush", "list": self.key}

    def is_result(self, result: Any) -> bool:
        return isinstance(result, int) and result >= 1

    def received(self) -> list[Received]:
        entries: Any = self.client.lrange(self.key, 0, -1)
        return [Received(entry) for entry in entries]

    def poison(self) -> Message:
        self.client.set(f"{self.key}-text", "no list")
        return Message("poison", list=f"{self.key}-text")


@variant_of(TestRedisStream, DeliveryTests, PayloadTests, SurrogateTests, FailureTests, LossTests)
class TestRedisSet(Redis):
    """Each message is a mapping of keys to values."""

    carries_ids = can_silence = False  # the wire is that of the stream

    def payload(self, number: int) -> dict[str, int]:
        return {f"{self.key}-{number}": number}

    def takes(self, payload: Any) -> bool:
        return isinstance(payload, dict)

    def is_result(self, result: Any) -> bool:
        return bool(result == "OK")

    def arrives_as(self, payload: dict[str, Any]) -> Any:
        return {key: _text(value) for key, value in payload.items()}

    def received(self) -> list[Received]:
        keys: Any = sorted(self.client.keys())
        if not all(key.startswith(self.key.encode()) for key in keys):
            return [Received({key.decode(): self.client.get(key) for key in keys})]
        return [Received({key.decode(): self.client.get(key)}) for key in keys]

    def poison(self) -> list[int]:
        return [1, 2]

    def big_payload(self, text: str) -> Any:
        return {f"{self.key}-big": text}


def _text(value: Any) -> bytes:
    return (json.dumps(value, separators=(",", ":")) if isinstance(value, list) else str(value)).encode()


class TestRedisCluster(KilledContract):
    """Each message is an entry of a stream in a cluster, whose node tells of the proxy before it."""

    handler = "redis"

    @pytest.fixture(autouse=True)
    def _node(
        self,
        one_node_cluster: tuple[RedisClusterNode, FaultProxy],
        fault_proxy: Callable[..., FaultProxy],
        unique_name: str,
        tls_files: TlsFiles,
    ) -> Iterator[None]:
        self.node, self.proxy = one_node_cluster
        self.key, self.tls_files = unique_name, tls_files
        self.front = fault_proxy(self.node, tls=tls_files)
        with redis.Redis(port=self.node.port) as self.client:
            yield

    def connection(self) -> dict[str, Any]:
        return {"cluster": [f"{self.proxy.host}:{self.proxy.port}"]}

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {"cluster": [f"{host}:{port}"], "connect_timeout_s": 0.5}

    def impatient(self) -> dict[str, Any]:
        return {**super().impatient(), "read_timeout_s": 2.0}

    def wrong_password(self) -> dict[str, Any]:
        return {"url": f"redis+cluster://somebody:{CANARY}@{self.proxy.host}:{self.proxy.port}"}

    def wrong_name(self) -> dict[str, Any]:
        tls = {"ca_file": str(self.tls_files.authority), "server_name": "elsewhere.invalid"}
        return {**self.at(*self.front.address), "tls": tls}

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return {"url": f"redis+cluster://somebody:{CANARY}@{host}:{port}", "connect_timeout_s": 0.5}

    def too_large(self) -> tuple[dict[str, Any], Any]:
        return {**self.connection(), "max_bulk_bytes": 10_000}, "x" * 10_001

    def kill_and_start(self) -> None:
        self.node.kill()
        announce(self.node.start(), self.proxy)
        self.killed += 1

    def options(self) -> dict[str, Any]:
        return {"command": "xadd", "stream": self.key}

    def is_result(self, result: Any) -> bool:
        return isinstance(result, str) and "-" in result

    def received(self) -> list[Received]:
        entries: Any = self.client.xrange(self.key)
        return [Received(fields[b"payload"], fields[b"id"].decode()) for _, fields in entries]

    def poison(self) -> Message:
        self.client.set(f"{self.key}-text", "no stream")
        return Message("poison", stream=f"{self.key}-text")
