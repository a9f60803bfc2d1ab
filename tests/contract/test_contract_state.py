"""Contract tests of the state handler on SQLite, Redis and the HTTP server."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from proxied_contract import KilledContract
from variants import variant_of

from rambla_py.message import Message
from rambla_py.state import HttpStore, RedisStore, SqliteStore, StateStore
from rambla_py.testing import CANARY, FaultProxy, HandlerContract, Received, RedisServer, TlsFiles
from rambla_py.testing.contract_tests.access import AccessTests
from rambla_py.testing.contract_tests.delivery import DeliveryTests
from rambla_py.testing.contract_tests.failures import FailureTests
from rambla_py.testing.contract_tests.losses import LossTests
from rambla_py.testing.contract_tests.payloads import PayloadTests
from rambla_py.testing.contract_tests.reach import ReachTests
from rambla_py.testing.contract_tests.sockets import SocketTests
from rambla_py.testing.state_server import StateServer

TOKEN = "s3cret-token"
MOST_BYTES = 100_000


class State(HandlerContract):
    """What the stores share: each message is a mapping, and each of its keys a record."""

    handler = "state"
    carries_ids = False

    def store(self) -> StateStore:
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        return {"prefix": "test:"}

    def payload(self, number: int) -> dict[str, Any]:
        return {f"k-{number}": {"n": number}}

    def takes(self, payload: Any) -> bool:
        return isinstance(payload, dict)

    def arrives_as(self, payload: dict[str, Any]) -> Any:
        return payload

    def is_result(self, result: Any) -> bool:
        return bool(result == 1)

    def received(self) -> list[Received]:
        with self.store() as store:
            records = {record.key.removeprefix("test:"): record.value for record in store.get_all()}
        if records.keys() == {"id", "lines"}:
            return [Received(records)]
        return [Received({key: value}) for key, value in records.items()]

    def poison(self) -> Any:
        return Message({"k" * 2000: 1})

    def too_large(self) -> tuple[dict[str, Any], Any]:
        return {**self.connection(), "max_value_bytes": MOST_BYTES}, {"large": "x" * MOST_BYTES}


class Served(State, KilledContract):
    """Behind a fault proxy, and another one that speaks TLS by a certificate of another name."""

    answer_bytes = 50
    mid_batch_bytes = 5_000

    @pytest.fixture(autouse=True)
    def _tls(self, strange_tls_files: TlsFiles) -> None:
        self.strange = strange_tls_files

    def settings(self) -> dict[str, Any]:
        return {"batch_size": 50}

    def die(self) -> None:
        self.proxy.cut_after(self.mid_batch_bytes, then=self.kill_and_start)


class TestStateInRedis(Served):
    @pytest.fixture(autouse=True)
    def _server(
        self, redis_server: RedisServer, fault_proxy: Callable[..., FaultProxy], unique_name: str, _tls: None
    ) -> None:
        self.server, self.proxy, self.name = redis_server, fault_proxy(redis_server), unique_name
        self.front = fault_proxy(redis_server, tls=self.strange)

    def store(self) -> StateStore:
        return RedisStore(self.server.url, prefix=f"rambla:state:{self.name}:")

    def options(self) -> dict[str, Any]:
        return {"prefix": f"{self.name}:"}

    def connection(self) -> dict[str, Any]:
        return {"url": f"redis://{self.proxy.host}:{self.proxy.port}/0"}

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {"url": f"redis://{host}:{port}/0", "connect_timeout_s": 0.5}

    def wrong_password(self) -> dict[str, Any]:
        return self.secret_at(self.proxy.host, self.proxy.port)

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return {"url": f"redis://somebody:{CANARY}@{host}:{port}/0", "connect_timeout_s": 0.5}

    def wrong_name(self) -> dict[str, Any]:
        authority = f"ssl_ca_certs={self.strange.authority}"
        return {"url": f"rediss://{self.front.host}:{self.front.port}/0?{authority}"}


@pytest.fixture(scope="module")
def state_server() -> Iterator[StateServer]:
    with StateServer(token=TOKEN, config=["--max-body-bytes", str(MOST_BYTES)]) as server:
        yield server


@variant_of(
    TestStateInRedis,
    DeliveryTests,
    AccessTests,
    ReachTests,
    LossTests,
    SocketTests,
    "test_a_payload_over_the_limit_is_fatal_alone",
)
class TestStateOverHttp(Served):
    @pytest.fixture(autouse=True)
    def _server(self, state_server: StateServer, fault_proxy: Callable[..., FaultProxy], _tls: None) -> None:
        self.server, self.proxy = state_server, fault_proxy(state_server)
        self.front = fault_proxy(state_server, tls=self.strange)
        with self.store() as store:
            store.clear()

    def store(self) -> StateStore:
        return HttpStore(self.server.url, token=TOKEN)

    def connection(self) -> dict[str, Any]:
        return self.at(self.proxy.host, self.proxy.port) | {"connect_timeout_s": 5.0}

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {"url": f"http://{host}:{port}", "token": TOKEN, "connect_timeout_s": 0.5}

    def wrong_password(self) -> dict[str, Any]:
        return self.connection() | {"token": CANARY}

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return self.at(host, port) | {"token": CANARY}

    def wrong_name(self) -> dict[str, Any]:
        url = f"https://{self.front.host}:{self.front.port}"
        return self.connection() | {"url": url, "ca_file": str(self.strange.authority)}

    def too_large(self) -> tuple[dict[str, Any], Any]:
        return self.connection(), {"large": "x" * MOST_BYTES}  # the server tells its own limit


@variant_of(TestStateInRedis, DeliveryTests, PayloadTests, FailureTests, ReachTests, LossTests)
class TestStateInSqlite(State):
    """A file; what holds its lock makes it silent."""

    has_address = has_login = can_cut = False
    has_tls = has_secrets = can_die = False  # no server, no way to it, no password

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> Iterator[None]:
        self.folder = tmp_path
        with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as self.other:
            yield

    def silence(self) -> None:
        self.other.execute("BEGIN EXCLUSIVE")

    def end_silence(self) -> None:
        self.other.execute("ROLLBACK")

    def store(self) -> StateStore:
        return SqliteStore(self.folder / "state.db")

    def connection(self) -> dict[str, Any]:
        return {"url": f"sqlite:///{self.folder}/state.db"}

    def unreachable(self) -> dict[str, Any]:
        (self.folder / "taken").touch()
        return {"url": f"sqlite:///{self.folder}/taken/state.db"}
