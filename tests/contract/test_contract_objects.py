"""The contract suite on the objects handler: on S3, both other protocols, a folder, and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import obstore
import pytest
from object_fixtures import KEYS, REGION, s3_client
from object_server import ObjectServer
from proxied_contract import KilledContract
from variants import variant_of

from rambla_py.handlers.objects import forget, memory_store
from rambla_py.message import Message
from rambla_py.serialization.encoding import as_object, to_json
from rambla_py.testing import CANARY, FaultProxy, HandlerContract, Received, TlsFiles
from rambla_py.testing.contract_tests.access import AccessTests
from rambla_py.testing.contract_tests.delivery import DeliveryTests
from rambla_py.testing.contract_tests.losses import LossTests
from rambla_py.testing.contract_tests.payloads import PayloadTests
from rambla_py.testing.s3 import MotoServer


class Objects(HandlerContract):
    """What the stores share: an object for each message, its id in the metadata."""

    handler = "objects"

    def options(self) -> dict[str, Any]:
        return {"path": "all/{id}"}

    def is_result(self, result: Any) -> bool:
        return isinstance(result, dict) and "/all/" in result["url"]

    def poison(self) -> Message:
        return Message("poison", path="all/{key}")  # and it has no key

    def too_large(self) -> tuple[dict[str, Any], Any]:
        return {**self.connection(), "max_object_bytes": 20_000}, "x" * 20_001


class Remote(Objects, KilledContract):
    """What is reached over HTTP, behind a proxy that can break it, and another one that speaks TLS."""

    front: FaultProxy
    strange: TlsFiles

    def wrong_name(self) -> dict[str, Any]:
        endpoint = f"https://{self.front.host}:{self.front.port}"
        return {**self.connection(), "endpoint": endpoint, "tls": {"ca_file": str(self.strange.authority)}}

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {**self.connection(), "endpoint": f"http://{host}:{port}", "timeout_s": 0.5}

    def cut(self) -> None:
        self.proxy.cut_after(self.mid_batch_bytes)

    def die(self) -> None:
        self.proxy.cut_after(self.mid_batch_bytes, then=self.kill_and_start)

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return {**self.wrong_password(), "endpoint": f"http://{host}:{port}", "timeout_s": 0.5}

    def wrong_password(self) -> dict[str, Any]:
        raise NotImplementedError


class TestS3(Remote):
    """S3, in objects of JSON lines: each line is a message with its id.

    moto takes some 400 objects a second, so the thousands of the suite go there in batches; those of the
    other protocols go one by one, and so do those of S3 in ``tests/live/test_objects.py``.
    """

    server: MotoServer

    @pytest.fixture(autouse=True)
    def _server(
        self,
        moto_server: MotoServer,
        moto_iam_server: MotoServer,
        fault_proxy: Callable[..., FaultProxy],
        strange_tls_files: TlsFiles,
        unique_name: str,
    ) -> Iterator[None]:
        self.server, self.proxy, self.iam = moto_server, fault_proxy(moto_server), moto_iam_server
        self.front, self.strange = fault_proxy(moto_server, tls=strange_tls_files), strange_tls_files
        self.client = s3_client(moto_server)
        self.bucket = f"bucket-{unique_name[-8:]}"
        self.client.create_bucket(Bucket=self.bucket)
        yield
        self.client.close()

    def settings(self) -> dict[str, Any]:
        return {
            "batch_size": 20
        }  # moto writes down at once what has less than 8 KB, and mixes what is larger

    def die(self) -> None:
        self.server.record()
        super().die()

    def kill_and_start(self) -> None:
        self.proxy.refuse()
        self.server.kill()
        self.server.start()
        self.client.create_bucket(Bucket=self.bucket)
        self.server.replay()
        self.proxy.accept()
        self.killed += 1

    def connection(self) -> dict[str, Any]:
        endpoint = f"http://{self.proxy.host}:{self.proxy.port}"
        return {"url": f"s3://{self.bucket}/pre/fix", "endpoint": endpoint, "region": REGION, **KEYS}

    def wrong_password(self) -> dict[str, Any]:
        return {**self.connection(), "endpoint": self.iam.url, "secret_access_key": CANARY}

    def options(self) -> dict[str, Any]:
        # Not packed, so that a batch is long enough to be cut in its midst.
        lines = {"body_format": "ndjson", "record": "full", "compression": "none"}
        return {"path": "all/{id}.jsonl", **lines}

    def poison(self) -> Message:
        return Message("poison", path="all/{key}/{id}")  # and it has no key

    def takes(self, payload: Any) -> bool:
        return payload != bytes(range(256))  # JSON has no place for bytes that are no text

    def arrives_as(self, payload: Any) -> bytes:
        return to_json(as_object(payload))

    def received(self) -> list[Received]:
        lines = [line for body in _bodies(self.client, self.bucket) for line in body.splitlines()]
        records = [msgspec.json.decode(line, type=_Record) for line in lines]
        return [Received(bytes(record.payload), record.id) for record in records]


class _Record(msgspec.Struct):
    id: str
    payload: msgspec.Raw


def _bodies(client: Any, bucket: str) -> Iterator[bytes]:
    for listed in client.list_objects_v2(Bucket=bucket).get("Contents", []):
        yield client.get_object(Bucket=bucket, Key=listed["Key"])["Body"].read()


class Spoken(Remote):
    """What the two servers of ours have in common."""

    server: ObjectServer
    prefix: str

    def connection(self) -> dict[str, Any]:
        table = self.server.settings(endpoint=f"http://{self.proxy.host}:{self.proxy.port}")
        return {**table, "url": f"{table['url']}/{self.prefix}"}

    def received(self) -> list[Received]:
        found = self.server.stored(f"{self.prefix}/")
        return [Received(stored.body, stored.metadata["id"]) for stored in found]


class TestGoogle(Spoken):
    """Google's protocol."""

    @pytest.fixture(autouse=True)
    def _server(
        self,
        gs_server: ObjectServer,
        fault_proxy: Callable[..., FaultProxy],
        strange_tls_files: TlsFiles,
        unique_name: str,
    ) -> None:
        self.server, self.proxy, self.prefix = gs_server, fault_proxy(gs_server), unique_name
        self.front, self.strange = fault_proxy(gs_server, tls=strange_tls_files), strange_tls_files

    def wrong_password(self) -> dict[str, Any]:
        return {**self.connection(), "bearer_token": CANARY}


@variant_of(TestGoogle, DeliveryTests, AccessTests, LossTests)
class TestAzure(Spoken):
    """Azure's protocol."""

    @pytest.fixture(autouse=True)
    def _server(
        self,
        az_server: ObjectServer,
        fault_proxy: Callable[..., FaultProxy],
        strange_tls_files: TlsFiles,
        unique_name: str,
    ) -> None:
        self.server, self.proxy, self.prefix = az_server, fault_proxy(az_server), unique_name
        self.front, self.strange = fault_proxy(az_server, tls=strange_tls_files), strange_tls_files

    def wrong_password(self) -> dict[str, Any]:
        table = self.connection()
        del table["account_key"]
        return {**table, "sas_token": f"sv=2023-11-03&sig={CANARY}"}


@variant_of(TestGoogle, DeliveryTests, PayloadTests)
class TestFolder(Objects):
    """A folder, which has no place for metadata."""

    carries_ids = has_server = has_address = has_login = can_cut = False
    has_tls = has_secrets = can_silence = can_die = False  # no server, no way to it, no password

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "objects"

    def connection(self) -> dict[str, Any]:
        return {"url": self.folder.as_uri()}

    def received(self) -> list[Received]:
        return [Received(path.read_bytes()) for path in self.folder.rglob("*") if path.is_file()]


@variant_of(TestGoogle, DeliveryTests, PayloadTests)
class TestMemory(Objects):
    """A store in this process."""

    has_server = has_address = has_login = can_cut = False
    has_tls = has_secrets = can_silence = can_die = False  # it is this process

    @pytest.fixture(autouse=True)
    def _name(self, unique_name: str) -> Iterator[None]:
        self.name = unique_name
        yield
        forget(unique_name)

    def connection(self) -> dict[str, Any]:
        return {"url": f"memory://{self.name}"}

    def received(self) -> list[Received]:
        store = memory_store(self.name)
        found = [obstore.get(store, each["path"]) for each in obstore.list(store).collect()]
        return [Received(bytes(one.bytes()), one.attributes["id"]) for one in found]
