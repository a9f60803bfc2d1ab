"""The contract suite on the clickhouse handler, on a real server behind a fault proxy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from proxied_contract import KilledContract

from rambla_py.testing import CANARY, FaultProxy, Received, TlsFiles
from rambla_py.testing.clickhouse_server import ClickHouseServer


class TestClickHouse(KilledContract):
    """Each message is a row of a table of the test's own, with its id in a column."""

    handler = "clickhouse"
    answer_bytes = 100
    mid_batch_bytes = 1_500

    @pytest.fixture(autouse=True)
    def _server(
        self,
        clickhouse: ClickHouseServer,
        fault_proxy: Callable[..., FaultProxy],
        tls_files: TlsFiles,
        unique_name: str,
    ) -> Iterator[None]:
        self.server, self.proxy, self.table_name = clickhouse, fault_proxy(clickhouse), unique_name
        self.front, self.tls_files = fault_proxy(clickhouse, tls=tls_files), tls_files
        clickhouse.query(f"CREATE TABLE `{unique_name}` (n Int64, mid String) ENGINE = MergeTree ORDER BY n")
        yield
        clickhouse.query(f"DROP TABLE `{unique_name}`")

    def connection(self) -> dict[str, Any]:
        return self.at(self.proxy.host, self.proxy.port)

    def at(self, host: str, port: int) -> dict[str, Any]:
        login = {"username": "shop", "password": "right"}
        return {"host": host, "port": port, "connect_timeout_s": 0.5, **login}

    def options(self) -> dict[str, Any]:
        return {"table": self.table_name, "id_column": "mid"}

    def settings(self) -> dict[str, Any]:
        return {"batch_size": 100}

    def takes(self, payload: Any) -> bool:
        return isinstance(payload, dict) and set(payload) <= {"n"}

    def is_result(self, result: Any) -> bool:
        return bool(result == 1)

    def received(self) -> list[Received]:
        lines = self.server.query(f"SELECT * FROM `{self.table_name}` FORMAT TSV").splitlines()
        pairs = [line.split("\t") for line in lines]
        return [Received(json.dumps({"n": int(n)}, separators=(",", ":")).encode(), mid) for n, mid in pairs]

    def poison(self) -> dict[str, str]:
        return {"n": "not a number"}

    def wrong_password(self) -> dict[str, Any]:
        return {"url": f"http://shop:{CANARY}@{self.proxy.host}:{self.proxy.port}"}

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return {"url": f"http://shop:{CANARY}@{host}:{port}", "connect_timeout_s": 0.5}

    def wrong_name(self) -> dict[str, Any]:
        tls = {"ca_file": str(self.tls_files.authority), "server_name": "elsewhere.invalid"}
        return {**self.at(self.front.host, self.front.port), "tls": tls}

    def too_large(self) -> tuple[dict[str, Any], Any]:
        return {**self.connection(), "max_body_bytes": 2_000}, {"n": 1, "note": "x" * 2_000}

    def die(self) -> None:
        self.proxy.cut_after(self.mid_batch_bytes, then=self.kill_and_start)
