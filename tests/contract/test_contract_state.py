"""This module holds the state handler to the contract, on a database, a real Redis and a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rambla_py.message import Message
from rambla_py.state import HttpStore, RedisStore, SqliteStore, StateStore
from rambla_py.testing import CANARY, FaultProxy, HandlerContract, Received, RedisServer, Server
from rambla_py.testing.state_server import StateServer

TOKEN = "s3cret-token"


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


class TestStateInSqlite(State):
    has_address = has_login = can_cut = False

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def store(self) -> StateStore:
        return SqliteStore(self.folder / "state.db")

    def connection(self) -> dict[str, Any]:
        return {"url": f"sqlite:///{self.folder}/state.db"}

    def unreachable(self) -> dict[str, Any]:
        (self.folder / "taken").touch()
        return {"url": f"sqlite:///{self.folder}/taken/state.db"}


class TestStateInRedis(State):
    @pytest.fixture(autouse=True)
    def _server(
        self, redis_server: RedisServer, fault_proxy: Callable[[Server], FaultProxy], unique_name: str
    ) -> None:
        self.server, self.proxy, self.name = redis_server, fault_proxy(redis_server), unique_name

    def store(self) -> StateStore:
        return RedisStore(self.server.url, prefix=f"rambla:state:{self.name}:")

    def options(self) -> dict[str, Any]:
        return {"prefix": f"{self.name}:"}

    def connection(self) -> dict[str, Any]:
        return {"url": f"redis://{self.proxy.host}:{self.proxy.port}/0"}

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {"url": f"redis://{host}:{port}/0", "connect_timeout_s": 0.5}

    def wrong_password(self) -> dict[str, Any]:
        return {"url": f"redis://somebody:{CANARY}@{self.proxy.host}:{self.proxy.port}/0"}

    def cut(self) -> None:
        self.proxy.cut_after(50, direction="down")

    def cuts(self) -> int:
        return self.proxy.cuts


@pytest.fixture(scope="module")
def state_server() -> Iterator[StateServer]:
    with StateServer(token=TOKEN) as server:
        yield server


class TestStateOverHttp(State):
    @pytest.fixture(autouse=True)
    def _server(self, state_server: StateServer, fault_proxy: Callable[[Server], FaultProxy]) -> None:
        self.server, self.proxy = state_server, fault_proxy(state_server)
        with self.store() as store:
            store.clear()

    def store(self) -> StateStore:
        return HttpStore(self.server.url, token=TOKEN)

    def connection(self) -> dict[str, Any]:
        return self.at(self.proxy.host, self.proxy.port) | {"token": TOKEN, "connect_timeout_s": 5.0}

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {"url": f"http://{host}:{port}", "connect_timeout_s": 0.5}

    def wrong_password(self) -> dict[str, Any]:
        return self.connection() | {"token": CANARY}

    def cut(self) -> None:
        self.proxy.cut_after(50, direction="down")

    def cuts(self) -> int:
        return self.proxy.cuts
