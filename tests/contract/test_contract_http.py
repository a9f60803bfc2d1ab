"""The contract suite on the http handler, on a real server behind a fault proxy."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from proxied_contract import KilledContract
from variants import variant_of
from web_process import LOGIN, WebProcess

from rambla_py.testing import CANARY, FaultProxy, Received, TlsFiles
from rambla_py.testing.contract_tests.delivery import DeliveryTests
from rambla_py.testing.contract_tests.failures import FailureTests
from rambla_py.testing.contract_tests.losses import LossTests
from rambla_py.testing.contract_tests.payloads import PayloadTests
from rambla_py.testing.contract_tests.surrogates import SurrogateTests


class Http(KilledContract):
    """What the formats share: a server that keeps what it takes, each test at a path of its own."""

    handler = "http"

    @pytest.fixture(autouse=True)
    def _server(
        self, web_process: WebProcess, fault_proxy: Callable[..., FaultProxy], unique_name: str
    ) -> None:
        self.server, self.path = web_process, f"/in/{unique_name}"
        self.proxy = fault_proxy(web_process)

    def connection(self) -> dict[str, Any]:
        return self.at(self.proxy.host, self.proxy.port)

    def at(self, host: str, port: int) -> dict[str, Any]:
        auth = dict(zip(("username", "password"), LOGIN, strict=True))
        return {"host": host, "port": port, "path": self.path, "auth": auth, "connect_timeout_s": 0.5}

    def wrong_password(self) -> dict[str, Any]:
        return {"url": f"http://shop:{CANARY}@{self.proxy.host}:{self.proxy.port}/in"}

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        secrets = {"auth": {"token": CANARY}, "signature": {"secret": CANARY}}
        return {"host": host, "port": port, "connect_timeout_s": 0.5, **secrets}

    def too_large(self) -> tuple[dict[str, Any], Any]:
        return {**self.connection(), "max_body_bytes": 5_000}, "x" * 5_001

    def is_result(self, result: Any) -> bool:
        return (result.status, result.body) == (200, b"thanks")

    def poison(self) -> str:
        return "poison"

    def die(self) -> None:
        self.proxy.cut_after(self.mid_batch_bytes, then=self.kill_and_start)


class TestHttpSingle(Http):
    """Each message is a request, with its id in Idempotency-Key."""

    carries_events = True

    @pytest.fixture(autouse=True)
    def _tls(self, fault_proxy: Callable[..., FaultProxy], tls_files: TlsFiles) -> None:
        self.front, self.tls_files = fault_proxy(self.server, tls=tls_files), tls_files

    def wrong_name(self) -> dict[str, Any]:
        tls = {"ca_file": str(self.tls_files.authority), "server_name": "elsewhere.invalid"}
        return {**self.at(self.front.host, self.front.port), "tls": tls}

    def received(self) -> list[Received]:
        return [
            Received(seen.body, seen.headers["idempotency-key"], seen.headers)
            for seen in self.server.seen(self.path)
        ]


class _Many(Http):
    can_silence = False  # the client is that of the single requests
    answer_bytes = 100
    mid_batch_bytes = 5_000

    def payload(self, number: int) -> dict[str, Any]:
        return {"n": number}

    def settings(self) -> dict[str, Any]:
        return {"batch_size": 20}

    def takes(self, payload: Any) -> bool:
        return not isinstance(payload, bytes) or payload.isascii()

    def arrives_as(self, payload: Any) -> Any:
        payload = payload.decode() if isinstance(payload, bytes) else payload
        return json.dumps(payload)

    def unpacked(self, events: list[Any]) -> list[Received]:
        found = []
        for event in events:
            name = event.pop("mid") if isinstance(event, dict) else "the-id"
            found.append(Received(json.dumps(event), name))
        return found


@variant_of(TestHttpSingle, DeliveryTests, PayloadTests, SurrogateTests, FailureTests, LossTests)
class TestHttpBatch(_Many):
    """Many messages are one request, an envelope of events."""

    def options(self) -> dict[str, Any]:
        return {"body_format": "batch", "id_field": "mid", "compression": "gzip", "compress_above": 10}

    def received(self) -> list[Received]:
        envelopes = [json.loads(seen.body) for seen in self.server.seen(self.path)]
        assert all(envelope["size"] == len(envelope["events"]) for envelope in envelopes)
        return [one for envelope in envelopes for one in self.unpacked(envelope["events"])]


@variant_of(TestHttpSingle, DeliveryTests, PayloadTests, SurrogateTests, LossTests)
class TestHttpLines(_Many):
    """Many messages are one request, a line of JSON each."""

    def options(self) -> dict[str, Any]:
        return {"body_format": "ndjson", "id_field": "mid", "compression": "zstd", "compress_above": 10}

    def received(self) -> list[Received]:
        lines = [line for seen in self.server.seen(self.path) for line in seen.body.decode().splitlines()]
        return self.unpacked([json.loads(line) for line in lines])
