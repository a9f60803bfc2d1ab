"""The contract suite on the handlers that need no server."""

from __future__ import annotations

import fcntl
import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from variants import variant_of

from rambla_py.handlers import memory, mock
from rambla_py.message import Message
from rambla_py.serialization.encoding import as_object
from rambla_py.testing import HandlerContract, Received
from rambla_py.testing.contract_tests.delivery import DeliveryTests
from rambla_py.testing.contract_tests.payloads import PayloadTests


class Within(HandlerContract):
    """What has no server: nothing to refuse a size, a certificate or a password, nothing to fall silent or die."""

    has_limit = has_tls = has_secrets = can_silence = can_die = False


class TestNull(Within):
    """It forgets everything."""

    handler = "null"
    stores = serializes = has_poison = has_server = has_address = has_login = can_cut = False


class TestStub(Within):
    """It answers what its options say, which makes any message a poison one."""

    handler = "stub"
    stores = serializes = has_server = has_address = has_login = can_cut = False

    def options(self) -> dict[str, Any]:
        return {"result": "accepted"}

    def is_result(self, result: Any) -> bool:
        return bool(result == "accepted")

    def poison(self) -> Message:
        return Message("poison", error="refused", retryable=False)


class TestMock(Within):
    """It takes what was expected; its calls are what arrived."""

    handler = "mock"
    serializes = has_server = has_address = has_login = can_cut = False
    test_a_refused_message_is_freed = None  # it keeps every call, for tests to look at

    @pytest.fixture(autouse=True)
    def _script(self) -> Iterator[None]:
        self.name = uuid.uuid4().hex
        self.script = mock.expectations(self.name)
        self.script.expect(
            "orders", {"accepted": True}, times=None, where=lambda m: "poison" not in str(m.payload)
        )
        yield
        mock.forget(self.name)

    def connection(self) -> dict[str, Any]:
        return {"name": self.name}

    def is_result(self, result: Any) -> bool:
        return bool(result == {"accepted": True})

    def arrives_as(self, payload: Any) -> Any:
        return payload

    def received(self) -> list[Received]:
        return [Received(call.payload, call.id) for call in self.script.calls()]

    def poison(self) -> str:
        return "poison"


class TestMemory(Within):
    """It keeps the payloads themselves; nothing is serialized, so only ``format`` can make one fail."""

    handler = "memory"
    serializes = has_server = has_address = has_login = can_cut = False

    @pytest.fixture(autouse=True)
    def _store(self) -> Iterator[None]:
        self.name = uuid.uuid4().hex
        yield
        memory.forget(self.name)

    def connection(self) -> dict[str, Any]:
        return {"name": self.name}

    def arrives_as(self, payload: Any) -> Any:
        return payload

    def received(self) -> list[Received]:
        return [Received(record.payload, record.id) for record in memory.store(self.name).messages()]

    def poison(self) -> Message:
        return Message({"value": object()}, format="bytes")


class Lines(Within):
    """What the handlers share that write lines of JSON: bytes must be UTF-8.

    A full disk is no limit of a payload: it is retried, as ``test_handler_file.py`` has it.
    """

    has_address = has_login = can_cut = False

    def options(self) -> dict[str, Any]:
        return {"record": "full"}

    def takes(self, payload: Any) -> bool:
        return payload != bytes(range(256))

    def arrives_as(self, payload: Any) -> Any:
        return json.loads(json.dumps(as_object(payload)))

    def poison(self) -> bytes:
        return b"\xff"

    def poison_with(self, data: str) -> bytes:
        return data.encode() + b"\xff"

    def lines(self) -> list[str]:
        raise NotImplementedError

    def received(self) -> list[Received]:
        read = [json.loads(line) for line in self.lines()]
        return [Received(one["payload"], one["id"]) for one in read]


class TestFile(Lines):
    """It writes lines to a file; what holds its lock makes it silent."""

    handler = "file"
    can_silence = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> Iterator[None]:
        self.folder = tmp_path
        with ExitStack() as self.held:
            yield

    def silence(self) -> None:
        file = self.held.enter_context((self.folder / "deep" / "orders.jsonl").open())
        fcntl.flock(file, fcntl.LOCK_EX)

    def end_silence(self) -> None:
        self.held.close()

    def connection(self) -> dict[str, Any]:
        return {"path": str(self.folder / "deep" / "orders.jsonl")}

    def lines(self) -> list[str]:
        return (self.folder / "deep" / "orders.jsonl").read_text().splitlines()

    def unreachable(self) -> dict[str, Any]:
        (self.folder / "file").touch()
        return {"path": str(self.folder / "file" / "orders.jsonl")}


@variant_of(TestFile, DeliveryTests, PayloadTests)
class TestFileRotated(TestFile):
    """It writes lines to files that are moved aside."""

    can_silence = False  # the lock is that of the file that is not

    def options(self) -> dict[str, Any]:
        return {"record": "full", "rotate_bytes": 20_000, "fsync": "never"}

    def lines(self) -> list[str]:
        files = (self.folder / "deep").glob("orders*.jsonl")
        return [line for file in files for line in file.read_text().splitlines()]


class TestConsole(Lines):
    """It prints lines on standard output."""

    handler = "console"
    has_server = False

    @pytest.fixture(autouse=True)
    def _output(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.output, self.read = capsys, ""

    def lines(self) -> list[str]:
        self.read += self.output.readouterr().out
        return self.read.splitlines()
