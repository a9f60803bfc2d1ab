"""The contract suite on the nats handler, on a real server behind a fault proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import nats
import pytest
from proxied_contract import KilledContract
from variants import variant_of

from rambla_py.handlers.nats.jetstream import NatsRecord
from rambla_py.message import Message
from rambla_py.testing import CANARY, FaultProxy, Received, Server, TlsFiles
from rambla_py.testing.contract_tests.delivery import DeliveryTests
from rambla_py.testing.contract_tests.failures import FailureTests
from rambla_py.testing.contract_tests.losses import LossTests
from rambla_py.testing.contract_tests.payloads import PayloadTests
from rambla_py.testing.nats_server import NatsServer


class Nats(KilledContract):
    """What both ways of publishing share."""

    handler = "nats"
    answer_bytes = 100

    @pytest.fixture(autouse=True)
    def _server(
        self,
        nats_server: NatsServer,
        nats_tls_server: NatsServer,
        fault_proxy: Callable[[Server], FaultProxy],
        unique_name: str,
        tls_files: TlsFiles,
    ) -> Iterator[None]:
        self.proxy, self.subject, self.server = fault_proxy(nats_server), unique_name, nats_server
        self.guarded, self.tls_files = nats_tls_server, tls_files
        with asyncio.Runner() as self.loop:
            self.back = asyncio.Event()
            self.client = self.run(self._connected())
            self.prepare()
            yield
            self.run(self.client.close())

    async def _connected(self) -> Any:
        async def heard() -> None:
            self.back.set()

        return await nats.connect(self.server.url, reconnect_time_wait=0.02, reconnected_cb=heard)

    def prepare(self) -> None:
        """Make what messages go to."""

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(work)

    def connection(self) -> dict[str, Any]:
        return {"url": f"nats://{self.proxy.host}:{self.proxy.port}"}

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {"url": f"nats://{host}:{port}", "connect_timeout_s": 0.5}

    def wrong_password(self) -> dict[str, Any]:
        where = f"{self.guarded.host}:{self.guarded.port}"
        return {"url": f"tls://somebody:{CANARY}@{where}", "tls": {"verify": False}}

    def wrong_name(self) -> dict[str, Any]:
        tls = {"ca_file": str(self.tls_files.authority), "server_name": "elsewhere.invalid"}
        return {"url": self.guarded.url, "tls": tls}

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return {**self.at(host, port), "url": f"nats://somebody:{CANARY}@{host}:{port}"}

    def too_large(self) -> tuple[dict[str, Any], Any]:
        return self.connection(), b"x" * 1_048_570  # 1 MiB with its headers, which count

    def poison(self) -> Message:
        return Message("poison", headers={"a": "b\r\nNats-Msg-Id: another"})

    def kill_and_start(self) -> None:
        self.proxy.refuse()
        self.server.kill()
        self.server.start()
        self.run(self.back.wait())  # the test's own client hears everything that comes from now on
        self.proxy.accept()
        self.killed += 1


class TestNatsStream(Nats):
    """Each message is stored by a stream."""

    def prepare(self) -> None:
        self.run(self.client.jetstream().add_stream(name=self.subject, subjects=[self.subject]))

    def options(self) -> dict[str, Any]:
        return {"subject": self.subject, "stream": self.subject}

    def is_result(self, result: Any) -> bool:
        return isinstance(result, NatsRecord) and result.stream == self.subject and result.seq >= 1

    def received(self) -> list[Received]:
        return self.run(self._stored())

    async def _stored(self) -> list[Received]:
        js = self.client.jetstream()
        last = (await js.stream_info(self.subject)).state.last_seq
        return [await self._get(js, number) for number in range(1, last + 1)]

    async def _get(self, js: Any, number: int) -> Received:
        message = await js.get_msg(self.subject, number)
        return Received(message.data or b"", message.headers["Nats-Msg-Id"])

    def poison(self) -> Message:
        return Message({"n": -1}, stream="another")


@variant_of(TestNatsStream, DeliveryTests, PayloadTests, FailureTests, LossTests)
class TestNatsCore(Nats):
    """Each message goes to all current subscribers."""

    answer_bytes = 2  # of the PONG that answers a batch

    def prepare(self) -> None:
        self.run(self._listen())

    async def _listen(self) -> None:
        self.heard: list[Received] = []

        async def hear(message: Any) -> None:
            self.heard.append(Received(message.data, message.headers["Nats-Msg-Id"]))

        await self.client.subscribe(self.subject, cb=hear)
        await self.client.flush()

    def options(self) -> dict[str, Any]:
        return {"subject": self.subject, "jetstream": False}

    def die(self) -> None:
        self.proxy.cut_after(self.mid_batch_bytes, then=self.kill_and_start)

    def received(self) -> list[Received]:
        self.run(self._catch_up())
        return self.heard

    async def _catch_up(self) -> None:
        """Ask the server, so that all it had for us before its answer is here; then let the listener run."""
        await self.client.flush()
        while any(sub.pending_msgs for sub in self.client._subs.values()):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
