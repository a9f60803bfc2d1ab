"""The contract suite on the jitsu handler, on a stand-in for Jitsu's ingestion API behind a fault proxy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from jitsu_server import KEY, JitsuProcess
from proxied_contract import KilledContract

from rambla_py.testing import CANARY, FaultProxy, Received, TlsFiles


class TestJitsu(KilledContract):
    """Each message is an event of a batch, with its id as messageId."""

    handler = "jitsu"
    answer_bytes = 100
    mid_batch_bytes = 1_500

    @pytest.fixture(autouse=True)
    def _server(
        self,
        jitsu_process: JitsuProcess,
        fault_proxy: Callable[..., FaultProxy],
        tls_files: TlsFiles,
        unique_name: str,
    ) -> None:
        self.server, self.proxy, self.run = jitsu_process, fault_proxy(jitsu_process), unique_name
        self.front, self.tls_files = fault_proxy(jitsu_process, tls=tls_files), tls_files

    def connection(self) -> dict[str, Any]:
        return self.at(self.proxy.host, self.proxy.port)

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {"host": host, "port": port, "write_key": KEY, "connect_timeout_s": 0.5}

    def settings(self) -> dict[str, Any]:
        return {"batch_size": 50}

    def payload(self, number: int) -> dict[str, Any]:
        return {"event": "Order", "n": number, "context": {"run": self.run}}

    def takes(self, payload: Any) -> bool:
        return isinstance(payload, dict) and "event" in payload

    def is_result(self, result: Any) -> bool:
        return bool(result.json()["ok"])

    def received(self) -> list[Received]:
        found = []
        for event in self.server.events(self.run):
            payload = {"event": event["event"], **event["properties"], "context": {"run": self.run}}
            found.append(Received(msgspec.json.encode(payload), event["messageId"]))
        return found

    def unserializable(self) -> tuple[Any, str]:
        return {"event": "Order", "lines": [1, object()]}, "$.properties.lines[1]"

    def poison(self) -> dict[str, str]:
        return {"event": "poison"}

    def wrong_password(self) -> dict[str, Any]:
        return {**self.connection(), "write_key": CANARY}

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return {**self.at(host, port), "write_key": CANARY}

    def wrong_name(self) -> dict[str, Any]:
        tls = {"ca_file": str(self.tls_files.authority), "server_name": "elsewhere.invalid"}
        return {**self.at(self.front.host, self.front.port), "tls": tls}

    def too_large(self) -> tuple[dict[str, Any], Any]:
        return {**self.connection(), "max_body_bytes": 2_000}, {"event": "Order", "note": "x" * 2_000}

    def die(self) -> None:
        self.proxy.cut_after(self.mid_batch_bytes, then=self.kill_and_start)
