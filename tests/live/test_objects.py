"""This module tests the objects handler against real servers, folders, and a store in memory."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import obstore
import pytest
from delivery_target import Target
from object_fixtures import KEYS, REGION, s3_client
from object_server import ObjectServer
from waiting import wait_until

import rambla_py
from rambla_py.delivery import Delivery
from rambla_py.errors import (
    AccessError,
    AttemptTimeoutError,
    ConnectionLostError,
    DeliveryError,
    OptionError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    SerializationError,
    UnknownOutcomeError,
)
from rambla_py.handler import Link, Secret, State
from rambla_py.handlers.objects import ObjectsHandler, memory_store
from rambla_py.handlers.objects.content import in_chunks
from rambla_py.handlers.objects.errors import NoAnswerError, PutTimeoutError, StoreTooLargeError
from rambla_py.handlers.objects.settings import ObjectsTls
from rambla_py.message import Failed
from rambla_py.policy import Policy
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.ports import free_port
from rambla_py.testing.s3 import MotoServer
from rambla_py.testing.servers import Server, TlsFiles

_MIB = 1024 * 1024
_WAIT_S = 20.0


class Worker:
    """Stands for a worker: a handler with its live connection, and the answers to what it was given."""

    def __init__(self, settings: dict[str, Any], options: dict[str, Any]) -> None:
        self.options = ObjectsHandler.Options(**options)
        self.handler = ObjectsHandler(
            ObjectsHandler.Connection(**settings), channel="orders", service="objects", options=self.options
        )
        self.told: list[bool] = []
        self.handler.link = Link(hold=self.told.append)
        self.connection = self.handler.connect()
        self.state = State(self.connection, "orders", "objects")
        self.answers: dict[int, Any] = {}
        self._numbers = itertools.count()

    def settle(self, delivery: Delivery, answer: Any) -> None:
        self.answers.setdefault(delivery.seq, answer.reason if isinstance(answer, Failed) else answer)

    settle_ok = settle

    def message(self, payload: Any, **options: Any) -> Delivery:
        given_id = options.pop("id", None)
        return Delivery(
            payload=payload,
            target=Target("objects"),
            receipt=None,
            seq=next(self._numbers),
            accepted_at=time.monotonic(),
            options=msgspec.structs.replace(self.options, **options) if options else self.options,
            policy=Policy(),
            headers={},
            given_id=given_id,
            session=self,
        )

    def send(self, *messages: Delivery) -> list[Any]:
        """Deliver as one batch, and return the answers in order, once all are there."""
        self.handler.handle_deliveries(messages, self.state)
        wanted = [message.seq for message in messages]
        wait_until(lambda: all(seq in self.answers for seq in wanted))
        return [self.answers[seq] for seq in wanted]

    def put(self, payload: Any, **options: Any) -> Any:
        """Deliver one message and return the answer to it."""
        return self.send(self.message(payload, **options))[0]

    def close(self) -> None:
        self.handler.close(self.connection)


@contextmanager
def worker(settings: dict[str, Any], **options: Any) -> Iterator[Worker]:
    with closing(Worker(settings, options)) as made:
        yield made


def refusal(**settings: Any) -> ConnectionLostError:
    """Return the error of a connect that must fail."""
    with pytest.raises(ConnectionLostError) as caught:
        ObjectsHandler(ObjectsHandler.Connection(**settings)).connect()
    return caught.value


def kinds(answers: Sequence[Any]) -> Counter[type]:
    return Counter(type(answer) for answer in answers)


class Bucket:
    """A bucket of its own on the run's S3, looked at with boto3."""

    def __init__(self, server: MotoServer, name: str) -> None:
        self.server, self.name, self.client = server, name, s3_client(server)
        self.client.create_bucket(Bucket=name)

    def settings(self, prefix: str = "", **changes: Any) -> dict[str, Any]:
        keys = {
            "access_key_id": KEYS["access_key_id"],
            "secret_access_key": Secret(KEYS["secret_access_key"]),
        }
        url = f"s3://{self.name}{prefix}"
        return {"url": url, "endpoint": self.server.url, "region": REGION, **keys, **changes}

    def names(self) -> list[str]:
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def get(self, key: str) -> dict[str, Any]:
        found = self.client.get_object(Bucket=self.name, Key=key)
        return {**found, "Body": found["Body"].read()}


@pytest.fixture
def bucket(moto_server: MotoServer, unique_name: str) -> Iterator[Bucket]:
    made = Bucket(moto_server, f"b-{unique_name[-8:]}")
    yield made
    made.client.close()


@pytest.fixture
def folder(tmp_path: Path) -> dict[str, Any]:
    return {"url": (tmp_path / "objects").as_uri()}


# -- S3 -----------------------------------------------------------------------------------------------------


def test_an_object(bucket: Bucket):
    """A message becomes an object below the prefix, with its id and headers as metadata; the result says which."""
    with worker(bucket.settings("/daily"), path="{channel}/{id}.json", metadata={"team": "shop"}) as w:
        message = w.message({"n": 1}, id="order-42")
        message.headers = {"traceparent": "00-1"}
        result = w.send(message)[0]
    found = bucket.get("daily/orders/order-42.json")
    assert found["Body"] == b'{"n":1}'
    assert found["ContentType"] == "application/json"
    assert found["Metadata"] == {"team": "shop", "traceparent": "00-1", "id": "order-42"}
    assert result["url"] == f"s3://{bucket.name}/daily/orders/order-42.json"
    assert (result["bytes"], result["e_tag"]) == (7, found["ETag"])


def test_attributes(bucket: Bucket):
    """What the options say of an object, the store says of it."""
    options = {"cache_control": "no-store", "content_disposition": "inline", "storage_class": "STANDARD_IA"}
    with worker(bucket.settings(), **options, content_language="de", tags={"a": "b c"}) as w:
        w.put("x", id="a", content_type="text/x-own")
    found = bucket.get("a")
    assert (found["CacheControl"], found["ContentDisposition"]) == ("no-store", "inline")
    assert (found["ContentLanguage"], found["ContentType"]) == ("de", "text/x-own")
    assert found["StorageClass"] == "STANDARD_IA"
    tags = bucket.client.get_object_tagging(Bucket=bucket.name, Key="a")["TagSet"]
    assert tags == [{"Key": "a", "Value": "b c"}]


def test_an_id_that_no_header_can_hold(bucket: Bucket):
    """An id of any language is in the metadata, as an encoded word."""
    with worker(bucket.settings(), path="x") as w:
        w.put("x", id="Grüße")
    assert bucket.get("x")["Metadata"]["id"] in ("Grüße", "=?UTF-8?B?R3LDvMOfZQ==?=")


def test_many_at_once(bucket: Bucket):
    """Many puts are in flight at a time, and each message is told of its own."""
    with worker(bucket.settings(concurrency=16)) as w:
        answers = w.send(*(w.message({"n": n}, id=f"m-{n}") for n in range(200)))
    assert [answer["url"] for answer in answers] == [f"s3://{bucket.name}/m-{n}" for n in range(200)]
    assert sorted(bucket.names()) == sorted(f"m-{n}" for n in range(200))


def test_a_file_in_parts(bucket: Bucket, tmp_path: Path):
    """A large file goes in parts, and is whole with its attributes at the end."""
    content = os.urandom(12 * _MIB)
    (tmp_path / "backup.csv").write_bytes(content)
    with worker(bucket.settings(part_bytes=5 * _MIB), files_from=str(tmp_path), path="{payload.name}") as w:
        result = w.put({"name": "b.csv"}, file="backup.csv", id="m")
    found = bucket.get("b.csv")
    assert found["Body"] == content
    assert found["ETag"].endswith('-3"')
    assert (found["ContentType"], found["Metadata"]["id"]) == ("text/csv", "m")
    assert result["bytes"] == len(content)


def test_a_large_payload_goes_in_parts(bucket: Bucket):
    """Bytes that are longer than a part go in several, too."""
    with worker(bucket.settings(part_bytes=5 * _MIB)) as w:
        w.put(b"x" * 6 * _MIB, id="large")
    found = bucket.get("large")
    assert (len(found["Body"]), found["ETag"][-3:]) == (6 * _MIB, '-2"')


def test_lines(bucket: Bucket):
    """A batch becomes one gzipped object of JSON lines; each message has an outcome of its own."""
    with worker(bucket.settings(), body_format="ndjson", path="{date:%Y}/{id}.jsonl.gz") as w:
        messages = [w.message({"n": n}, id=f"m-{n}") for n in range(500)]
        messages[100] = w.message({"n": object()}, id="poison")
        answers = w.send(*messages)
    assert [at for at, answer in enumerate(answers) if not isinstance(answer, dict)] == [100]
    assert isinstance(answers[100], SerializationError)
    assert answers[100].path == "$.n"
    (name,) = bucket.names()
    found = bucket.get(name)
    assert name.startswith(f"{time.gmtime().tm_year}/m-0-499-")
    assert {answer["url"].rpartition("/")[2] for answer in answers if isinstance(answer, dict)} == {
        name.partition("/")[2]
    }
    assert (found["ContentType"], found["ContentEncoding"]) == ("application/x-ndjson", "gzip")
    lines = [json.loads(line) for line in gzip.decompress(found["Body"]).splitlines()]
    assert lines == [{"n": n} for n in range(500) if n != 100]


def test_lines_by_customer(bucket: Bucket):
    """Messages whose paths differ by more than the id go into objects of their own."""
    options = {"body_format": "ndjson", "compression": "none", "path": "{payload.to}/{id}"}
    with worker(bucket.settings(), **options) as w:
        messages = [w.message({"to": "ab"[n % 2], "n": n}) for n in range(10)]
        answers = w.send(*messages, w.message({"n": 10}), w.message({"to": "a"}, content_type="text/own"))
    assert isinstance(answers[10], PermanentError)
    assert [name[0] for name in sorted(bucket.names())] == ["a", "a", "b"]
    even = answers[0]["url"].partition(f"{bucket.name}/")[2]
    assert [json.loads(line)["n"] for line in bucket.get(even)["Body"].splitlines()] == [0, 2, 4, 6, 8]


def test_lines_of_another_batch_do_not_take_the_place_of_the_first(bucket: Bucket):
    """A batch that begins with the same message is another object; the same batch again is the same one."""
    with worker(bucket.settings(), body_format="ndjson") as w:
        first = [w.message({"n": n}, id=f"m-{n}") for n in range(3)]
        again = [w.message({"n": n}, id=f"m-{n}") for n in range(3)]
        w.send(*first)
        w.send(*again)
        assert len(bucket.names()) == 1
        w.send(w.message({"n": 0}, id="m-0"), *(w.message({"n": n}, id=f"m-{n}") for n in (7, 8)))
    assert len(bucket.names()) == 2


def test_a_bucket_that_is_not_there(bucket: Bucket):
    """A missing bucket is an error that says so, and what to do."""
    error = refusal(**bucket.settings(url="s3://no-such-bucket"))
    assert type(error) is AccessError
    assert "s3://no-such-bucket" in str(error)
    assert "create it, or correct the url" in str(error)


def test_a_bucket_that_goes(bucket: Bucket):
    """A bucket that is removed is noticed at the next put, and nothing counts as written."""
    with worker(bucket.settings()) as w:
        bucket.client.delete_bucket(Bucket=bucket.name)
        assert type(w.put("x")) is AccessError


def test_wrong_credentials(moto_iam_server: MotoServer):
    """Credentials that the server does not know are an AccessError; nothing secret is in it."""
    error = refusal(
        url="s3://bucket",
        endpoint=moto_iam_server.url,
        region=REGION,
        access_key_id="nobody",
        secret_access_key=Secret("canary"),
    )
    assert type(error) is AccessError
    assert "InvalidAccessKeyId" in str(error)
    assert "canary" not in f"{error!r}{error.__cause__!r}{error.__context__!r}"


def test_no_credentials(monkeypatch: pytest.MonkeyPatch):
    """Where no credentials are to be found, the error says where was looked."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    metadata = Secret(f"http://127.0.0.1:{free_port()}")
    error = refusal(url="s3://bucket", region=REGION, store_options={"metadata_endpoint": metadata})
    assert type(error) is AccessError
    assert "no credentials were given" in str(error)


# -- TLS ----------------------------------------------------------------------------------------------------


def _tls_settings(server: MotoServer, **tls: Any) -> dict[str, Any]:
    keys = {"access_key_id": "k", "secret_access_key": Secret("s")}
    endpoint = f"https://localhost:{server.port}"
    return {"url": "s3://secure", "endpoint": endpoint, "region": REGION, "tls": ObjectsTls(**tls), **keys}


def test_tls(moto_tls_server: MotoServer, tls_files: TlsFiles):
    """Objects go over TLS when the authority is known, or when nobody asks for it."""
    known = _tls_settings(moto_tls_server, ca_file=str(tls_files.authority))
    assert "create it" in str(refusal(**known))  # it has been answered: the bucket is missing
    assert "create it" in str(refusal(**_tls_settings(moto_tls_server, verify=False)))


def test_tls_with_an_unknown_authority(moto_tls_server: MotoServer):
    """A certificate of an authority that is not trusted is an AccessError."""
    error = refusal(**_tls_settings(moto_tls_server))
    assert type(error) is AccessError
    assert "certificate was refused: its authority is not trusted" in str(error)


def test_a_file_of_authorities_that_is_not_there():
    """A missing authority file is an AccessError that names it."""
    error = refusal(url="s3://b", endpoint="https://localhost", tls=ObjectsTls(ca_file="/nowhere/ca.pem"))
    assert type(error) is AccessError
    assert "/nowhere/ca.pem" in str(error)


# -- answers ------------------------------------------------------------------------------------------------


@contextmanager
def _listener(*answers: bytes) -> Iterator[int]:
    """Run a server that gives these answers to one request after the other; b"" closes, None keeps quiet."""
    left = list(answers)
    held: list[tuple[socket.socket, threading.Thread]] = []
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            try:
                accepted, _ = listening.accept()
            except OSError:
                return
            held.append((accepted, threading.Thread(target=talk, args=(accepted,), daemon=True)))
            held[-1][1].start()

    def talk(accepted: socket.socket) -> None:
        with suppress(OSError):  # reset by a client that is gone
            while accepted.recv(65_536):
                answer = left.pop(0) if left else b""
                if not answer:
                    accepted.shutdown(socket.SHUT_RDWR)
                    return
                if answer is not SILENCE:
                    accepted.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        done.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    for accepted, thread in held:
        # Not closed while its thread reads: that would go on with whatever gets the same descriptor.
        with suppress(OSError):
            accepted.shutdown(socket.SHUT_RDWR)
        thread.join()
        accepted.close()


SILENCE = b"silence"


def _http(status: str, code: str = "", *, body: str | None = None) -> bytes:
    told = body if body is not None else f"<Error><Code>{code}</Code><Message>a reason</Message></Error>"
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(told)}\r\n\r\n{told}".encode()


NOTHING_THERE = _http("404 Not Found", "NoSuchKey")


def _at(port: int, **changes: Any) -> dict[str, Any]:
    keys = {"access_key_id": "k", "secret_access_key": Secret("canary")}
    endpoint = f"http://127.0.0.1:{port}"
    return {"url": "s3://bucket", "endpoint": endpoint, "region": REGION, "timeout_s": 0.3, **keys, **changes}


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        (_http("500 Oops", "InternalError"), RejectedError, "500 InternalError: a reason"),
        (_http("503 Slow", "SlowDown"), RejectedError, "SlowDown"),
        (_http("429 Slow", body=""), RejectedError, "429"),
        (_http("409 Conflict", "OperationAborted"), RejectedError, "OperationAborted"),
        (_http("403 No", "AccessDenied"), RejectedError, "AccessDenied"),
        (_http("403 No", "SignatureDoesNotMatch"), AccessError, "the credentials were refused"),
        (_http("401 No", body=""), AccessError, "the credentials were refused"),
        (_http("400 No", "ExpiredToken"), AccessError, "the credentials were refused"),
        (_http("404 No", "NoSuchBucket"), AccessError, "create it"),
        (_http("404 No", body="<html>"), AccessError, "is the endpoint right?"),
        (_http("301 Elsewhere", body=""), AccessError, "is the region"),
        (_http("400 No", "KeyTooLongError"), PermanentError, "KeyTooLongError"),
        (_http("400 No", "EntityTooLarge"), StoreTooLargeError, "larger than the store takes"),
        (_http("413 No", body=""), StoreTooLargeError, "larger than the store takes"),
        (b"", UnknownOutcomeError, "lost before the answer"),
        (SILENCE, NoAnswerError, "no answer within the connection's timeout_s"),
    ],
)
def test_an_answer(answer: bytes, kind: type[DeliveryError], told: str):
    """Each answer of a store, and the lack of one, is the error that says what may follow."""
    with _listener(NOTHING_THERE, answer) as port, worker(_at(port)) as w:
        error = w.put("x")
    assert type(error) is kind
    assert told in str(error)
    assert "canary" not in f"{error!r}{error.__cause__!r}{error.__context__!r}"
    assert "Debug" not in str(error)


@pytest.mark.parametrize(
    ("answer", "size", "limit"),
    [
        (
            "<Code>EntityTooLarge</Code><ProposedSize>11</ProposedSize><MaxSizeAllowed>10</MaxSizeAllowed>",
            11,
            10,
        ),
        ("<Code>RequestBodyTooLarge</Code><MaxLimit>10</MaxLimit>", 0, 10),
        ("<Code>EntityTooLarge</Code>", 0, 0),
    ],
)
def test_the_sizes_that_a_store_tells(answer: str, size: int, limit: int):
    """What S3 and Azure tell of their limit is in the error."""
    refused = _http("400 No", body=f"<Error>{answer}</Error>")
    with _listener(NOTHING_THERE, refused) as port, worker(_at(port)) as w:
        error = w.put("x")
    assert isinstance(error, PayloadTooLargeError)
    assert (error.size, error.limit) == (size, limit)
    assert f"of {limit} at most" in str(error) or not limit


def test_lines_over_the_limit(bucket: Bucket):
    """A batch that is too large for one object is several; what is too large alone fails alone."""
    settings = bucket.settings(max_object_bytes=1_000)
    with worker(settings, path="{id}", body_format="ndjson", compression="none") as w:
        payloads = ["x" * 100] * 30
        payloads[7] = "x" * 1_000
        answers = w.send(*(w.message(payload) for payload in payloads))
    assert [at for at, answer in enumerate(answers) if not isinstance(answer, dict)] == [7]
    assert type(answers[7]) is PayloadTooLargeError
    sizes = [len(bucket.get(name)["Body"]) for name in bucket.names()]
    assert sum(sizes) == 29 * 103
    assert max(sizes) <= 1_000


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_file_over_the_limit(bucket: Bucket, tmp_path: Path, compression: str):
    """A file that is too large is put nowhere: not even one whose size shows when it is packed."""
    (tmp_path / "f").write_bytes(os.urandom(12 * _MIB))
    settings = bucket.settings(max_object_bytes=11 * _MIB, part_bytes=5 * _MIB)
    with worker(settings, file=str(tmp_path / "f"), compression=compression) as w:
        error = w.put(None)
    assert type(error) is PayloadTooLargeError
    assert error.size > error.limit == 11 * _MIB
    assert bucket.names() == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (_http("404 No", body="<html>"), "is the endpoint right?"),
        (_http("503 Slow", "SlowDown"), "SlowDown"),
        (_http("401 No", body=""), "credentials"),
        (b"", "lost before the answer"),
        (SILENCE, "no answer within the connection's timeout_s"),
    ],
)
def test_a_connect_that_fails(answer: bytes, told: str):
    """A store that cannot answer a look is not connected to."""
    with _listener(answer) as port:
        assert told in str(refusal(**_at(port)))


def test_those_who_may_only_write(bucket: Bucket):
    """Credentials without the right to read can connect: a refused look says nothing about writing."""
    with _listener(_http("403 No", "AccessDenied")) as port, worker(_at(port)) as w:
        assert w.connection is not None


def test_unreachable():
    """Where nothing listens, the error names store and endpoint, and nothing was sent."""
    where = _at(free_port())
    error = refusal(**where)
    assert type(error) is ConnectionLostError
    assert f"cannot connect to s3://bucket at {where['endpoint']}: Connection refused" in str(error)


def test_tls_to_a_store_without_it(bucket: Bucket):
    """The error says what is wrong with the endpoint."""
    error = refusal(**bucket.settings(endpoint=bucket.server.url.replace("http", "https")))
    assert "it does not speak TLS there" in str(error)


def test_what_was_not_begun_is_not_unknown():
    """After a loss, puts that wait for their turn count as never sent, not as unknown."""
    with _listener(NOTHING_THERE, SILENCE) as port, worker(_at(port, concurrency=1)) as w:
        answers = w.send(*(w.message("x") for _ in range(5)))
        assert kinds(answers) == {NoAnswerError: 1, ConnectionLostError: 4}
        assert isinstance(answers[0], UnknownOutcomeError)
        assert type(w.put("later")) is ConnectionLostError


def test_a_put_that_is_slow_while_others_are_answered():
    """Of many in flight, one without an answer spends its own attempt; the connection goes on."""
    written = b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n'
    with _listener(NOTHING_THERE, SILENCE, *[written] * 20) as port, worker(_at(port, concurrency=2)) as w:
        answers = w.send(*(w.message("x") for _ in range(10)))
        assert kinds(answers) == {PutTimeoutError: 1, dict: 9}
        assert isinstance(next(one for one in answers if not isinstance(one, dict)), AttemptTimeoutError)
        assert isinstance(w.put("later"), dict)


def test_a_slow_store_is_given_its_time(
    gs_server: ObjectServer, fault_proxy: Callable[[Server], FaultProxy], unique_name: str
):
    """Puts that wait for their turn are not overdue, as long as the store answers those before them."""
    proxy = fault_proxy(gs_server)
    proxy.delay(0.02)
    settings = {**gs_server.settings(), "endpoint": f"http://{proxy.host}:{proxy.port}", "concurrency": 1}
    channel = {"attempt_timeout_s": 0.5, "options": {"path": f"{unique_name}/{{id}}"}}
    table = {"connections": {"main": settings}, "channels": {"orders": channel}}
    with rambla_py.Rambla({"objects": table}) as app:
        began = time.monotonic()
        outcomes = app.publish_many("orders", ["x"] * 30).outcomes(timeout_s=_WAIT_S)
        took_s = time.monotonic() - began
    assert took_s > 1, "it was quick: the test has proved nothing"
    assert Counter((outcome.status, outcome.attempts) for outcome in outcomes) == {("ok", 1): 30}


def test_what_waits_for_its_turn_may_expire_and_is_not_unknown_at_a_stop(
    gs_server: ObjectServer, fault_proxy: Callable[[Server], FaultProxy], unique_name: str
):
    """Only what was written and not answered is unknown; what waits expires, or is dropped unsent."""
    proxy = fault_proxy(gs_server)
    settings = {**gs_server.settings(), "endpoint": f"http://{proxy.host}:{proxy.port}", "concurrency": 2}
    table = {"connections": {"main": settings}, "channels": {"orders": {}}}
    with rambla_py.Rambla({"objects": table}) as app:
        app.publish("orders", "x", path=unique_name).result(timeout_s=_WAIT_S)
        proxy.black_hole()
        waiting = app.publish_many("orders", ["x"] * 10)
        wait_until(lambda: proxy.swallowed > 0)
        short = app.publish_many("orders", ["x"] * 10, expires_s=0.05)
        assert Counter(outcome.status for outcome in short.outcomes(timeout_s=_WAIT_S)) == {"expired": 10}
        app.stop(timeout_s=0.1)
        statuses = Counter(outcome.status for outcome in waiting.outcomes(timeout_s=_WAIT_S))
    assert statuses == {"unknown": 2, "dropped": 8}


def test_parts_of_a_file_are_progress(
    gs_server: ObjectServer, fault_proxy: Callable[[Server], FaultProxy], unique_name: str, tmp_path: Path
):
    """While the parts of a file go out, its attempt is not overdue, however long all of it takes."""
    proxy = fault_proxy(gs_server)
    (tmp_path / "large").write_bytes(b"x" * 32 * _MIB)
    endpoint = f"http://{proxy.host}:{proxy.port}"
    settings = _other_settings(gs_server, unique_name, part_bytes=5 * _MIB, endpoint=endpoint)
    with worker(settings, file=str(tmp_path / "large")) as w:
        proxy.throttle(20_000_000)
        message = w.message(None)
        w.handler.handle_deliveries([message], w.state)
        wait_until(lambda: bool(w.told))
        assert message.seq not in w.answers, "it was at its end: the test has proved nothing"
        wait_until(lambda: message.seq in w.answers)
        assert w.answers[message.seq]["bytes"] == 32 * _MIB
    assert set(w.told) == {False}


def test_secrets_of_settings_that_cannot_be_used():
    """A setting that the driver cannot use is named, and its value is not shown."""
    error = refusal(url="s3://bucket", store_options={"skip_signature": Secret("canary")})
    assert type(error) is AccessError
    assert "canary" not in f"{error!r}{error.__cause__!r}{error.__context__!r}"
    error = refusal(url="gs://bucket", service_account_key=Secret("canary"))
    assert "canary" not in f"{error!r}{error.__cause__!r}{error.__context__!r}"


def test_an_unknown_setting_of_the_store():
    """A name that obstore does not know is an error that says so."""
    assert "sse_kms_key" in str(refusal(url="s3://bucket", store_options={"sse_kms_key": Secret("x")}))


# -- Google and Azure ---------------------------------------------------------------------------------------


@pytest.fixture(params=["gs", "az"])
def other(request: pytest.FixtureRequest) -> ObjectServer:
    server: ObjectServer = request.getfixturevalue(f"{request.param}_server")
    return server


def _other_settings(server: ObjectServer, prefix: str, **changes: Any) -> dict[str, Any]:
    table = server.settings(**changes)
    secrets = {key: Secret(table[key]) for key in ("bearer_token", "account_key") if key in table}
    return {**table, **secrets, "url": f"{table['url']}/{prefix}"}


def test_the_other_protocols(other: ObjectServer, unique_name: str, tmp_path: Path):
    """Bytes, attributes, ids, and files in parts arrive in Google's and in Azure's protocol."""
    (tmp_path / "f").write_bytes(os.urandom(11 * _MIB))
    settings = _other_settings(other, unique_name, part_bytes=5 * _MIB)
    with worker(settings, files_from=str(tmp_path), content_type="a/b") as w:
        answers = w.send(w.message({"n": 1}, id="small"), w.message(None, id="file", file="f"))
    assert [answer["url"].rpartition("/")[2] for answer in answers] == ["small", "file"]
    file, small = other.stored(unique_name)
    assert (small.body, small.metadata) == (b'{"n":1}', {"id": "small"})
    assert "a/b" in small.headers.values()
    assert (file.body == (tmp_path / "f").read_bytes(), file.metadata) == (True, {"id": "file"})


def test_the_other_protocols_over_tls(
    other: ObjectServer, unique_name: str, fault_proxy: Callable[..., FaultProxy], tls_files: TlsFiles
):
    """The certificate is checked against the authorities, and what is put arrives."""
    front = fault_proxy(other, tls=tls_files)
    endpoint = f"https://{front.host}:{front.port}"
    settings = _other_settings(other, unique_name, endpoint=endpoint)
    with worker({**settings, "tls": ObjectsTls(ca_file=str(tls_files.authority))}) as w:
        assert isinstance(w.put("x"), dict)
    assert len(other.stored(unique_name)) == 1
    assert "its authority is not trusted" in str(refusal(**settings))


def test_missing_containers(other: ObjectServer):
    """A container that is not there is an error that says so."""
    table = {**other.settings(), "url": f"{other.dialect}://nowhere"}
    error = refusal(
        **{key: Secret(v) if key in ("bearer_token", "account_key") else v for key, v in table.items()}
    )
    assert type(error) is AccessError
    assert "create it" in str(error)


def test_tags_have_no_place_on_google(gs_server: ObjectServer, unique_name: str):
    """What a store would drop in silence is refused."""
    with worker(_other_settings(gs_server, unique_name), tags={"a": "b"}) as w:
        assert "gs:// has no tags" in str(w.put("x"))
    assert gs_server.stored(unique_name) == []


def test_what_a_store_refuses_fails_alone(az_server: ObjectServer, unique_name: str):
    """A message that the store refuses for its metadata is fatal, and the others are there."""
    with worker(_other_settings(az_server, unique_name)) as w:
        messages = [w.message("x", id=f"m-{n}") for n in range(50)]
        messages[20].headers = {"no-hyphens-in-azure": "x"}
        answers = w.send(*messages)
    assert [at for at, answer in enumerate(answers) if not isinstance(answer, dict)] == [20]
    assert type(answers[20]) is PermanentError
    assert "InvalidMetadata" in str(answers[20])
    assert len(az_server.stored(unique_name)) == 49


# -- write once ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["s3", "gs", "az", "memory"])
def store(request: pytest.FixtureRequest, unique_name: str) -> dict[str, Any]:
    """The table of a connection to each kind of store that keeps metadata."""
    if request.param == "memory":
        return {"url": f"memory://{unique_name}"}
    if request.param == "s3":
        found: Bucket = request.getfixturevalue("bucket")
        return found.settings()
    return _other_settings(request.getfixturevalue(f"{request.param}_server"), unique_name)


def test_write_once(store: dict[str, Any]):
    """An object that is there is left: a success for the same message, fatal for another one."""
    with worker(store, path="config.json", if_none_match=True) as w:
        first = w.put({"n": 1}, id="one")
        again = w.put({"n": 1}, id="one")
        other = w.put({"n": 2}, id="two")
        found = obstore.get(w.handler.destination(w.connection), "config.json").bytes()
    assert again["url"] == first["url"]
    assert again["bytes"] == first["bytes"]
    assert type(other) is PermanentError
    assert "config.json is taken by message 'one'" in str(other)
    assert bytes(found) == b'{"n":1}'


def test_write_once_without_metadata(folder: dict[str, Any], tmp_path: Path):
    """Where no id is kept, the same content is the same message."""
    with worker(folder, path="config.json", if_none_match=True) as w:
        assert isinstance(w.put({"n": 1}, id="one"), dict)
        assert isinstance(w.put({"n": 1}, id="one"), dict)
        other = w.put({"n": 2}, id="two")
    assert type(other) is PermanentError
    assert (tmp_path / "objects" / "config.json").read_bytes() == b'{"n":1}'


def test_without_it_the_latest_stays(store: dict[str, Any]):
    """Unless asked otherwise, an object is overwritten."""
    with worker(store, path="config.json") as w:
        w.put({"n": 1})
        assert isinstance(w.put({"n": 2}), dict)
        found = obstore.get(w.handler.destination(w.connection), "config.json").bytes()
    assert bytes(found) == b'{"n":2}'


def test_write_once_of_a_large_file(folder: dict[str, Any], tmp_path: Path):
    """A file of several parts cannot be written only once: that is said, not ignored."""
    (tmp_path / "large").write_bytes(b"x" * (5 * _MIB + 1))
    with worker({**folder, "part_bytes": 5 * _MIB}, file=str(tmp_path / "large"), if_none_match=True) as w:
        error = w.put(None)
    assert type(error) is PayloadTooLargeError
    assert "part_bytes is 5242880" in str(error)


# -- folders ------------------------------------------------------------------------------------------------


def test_a_folder_is_made(folder: dict[str, Any], tmp_path: Path):
    """The folder of the URL is made, and those that paths need below it."""
    with worker(folder, path="{date:%Y}/{id}.txt") as w:
        w.put("x", id="a")
    assert [path.name for path in (tmp_path / "objects").glob("*/*")] == ["a.txt"]


@pytest.mark.parametrize("name", ["%2e%2e", "%2F..", "a b", "é", "..."])
def test_a_name_in_a_folder(name: str, folder: dict[str, Any], tmp_path: Path):
    """A name is taken as it is: nothing in it is decoded, and nothing leads out of the folder."""
    with worker(folder, path="sub/{id}") as w:
        assert isinstance(w.put("x", id=name), dict)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [name]
    assert (tmp_path / "objects" / "sub" / name).read_text() == "x"


def test_a_folder_has_no_attributes(folder: dict[str, Any]):
    """What a folder has no place for is refused; ids and headers are left out."""
    with worker(folder) as w:
        for options in ({"content_type": "a/b"}, {"metadata": {"a": "b"}}, {"tags": {"a": "b"}}):
            answer = w.put("x", **options)
            assert type(answer) is PermanentError
            assert f"leave out {next(iter(options))}" in str(answer)
        message = w.message("x")
        message.headers = {"a": "b"}
        assert isinstance(w.send(message)[0], dict)


@pytest.mark.parametrize("name", ["x" * 300, "taken/x"])
def test_a_path_that_a_folder_cannot_hold(name: str, folder: dict[str, Any]):
    """A name that is too long, or below a file, fails alone and for good."""
    with worker(folder) as w:
        answers = w.send(w.message("x", path="taken"))
        answers += w.send(w.message("x", path=name), w.message("x", path="other"))
    assert [type(answer) for answer in answers] == [dict, PermanentError, dict]


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    """A folder below a file is an AccessError."""
    (tmp_path / "file").touch()
    error = refusal(url=(tmp_path / "file" / "folder").as_uri())
    assert type(error) is AccessError
    assert "folder" in str(error)


def test_a_folder_that_goes(folder: dict[str, Any], tmp_path: Path):
    """A folder that was removed is noticed by a ping."""
    with worker(folder) as w:
        w.handler.ping(w.connection)
        (tmp_path / "objects").rmdir()
        with pytest.raises(AccessError, match="no longer there"):
            w.handler.ping(w.connection)


def test_stores_in_memory(unique_name: str):
    """Workers of one name share a store, which can be looked at; one without a name is the connection's own."""
    shared = {"url": f"memory://{unique_name}"}
    with worker(shared) as one, worker(shared) as two:
        one.put("x", id="a")
        two.put("x", id="b")
    assert sorted(found["path"] for found in obstore.list(memory_store(unique_name)).collect()) == ["a", "b"]
    with worker({"url": "memory://"}) as one, worker({"url": "memory://"}) as two:
        assert one.handler.destination(one.connection) is not two.handler.destination(two.connection)


# -- files --------------------------------------------------------------------------------------------------


def test_a_file_of_the_channel(folder: dict[str, Any], tmp_path: Path):
    """A channel may name a file of its own, wherever it is."""
    (tmp_path / "state.json").write_text("[]")
    with worker(folder, file=str(tmp_path / "state.json"), path="{date:%Y}.json") as w:
        result = w.put(None)
    assert result["bytes"] == 2


def test_a_file_of_a_message_needs_leave(folder: dict[str, Any], tmp_path: Path):
    """A message may not name any file of the machine: it may come from a stranger's envelope."""
    (tmp_path / "secret").write_text("x")
    with worker(folder) as w:
        answer = w.put(None, file=str(tmp_path / "secret"))
        assert type(answer) is PermanentError
        assert "files_from" in str(answer)
        assert not list((tmp_path / "objects").iterdir())


def test_a_file_from_elsewhere(folder: dict[str, Any], tmp_path: Path):
    """Neither '..', nor an absolute name, nor a link leads out of files_from."""
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "out").write_text("x")
    (inside / "link").symlink_to(tmp_path / "out")
    (inside / "fine").write_text("y")
    names = ["../out", str(tmp_path / "out"), "link", "fine", str(inside / "fine")]
    with worker(folder, files_from=str(inside)) as w:
        answers = [w.put(None, file=name) for name in names]
    assert [type(answer) for answer in answers] == [PermanentError] * 3 + [dict] * 2
    assert all("not below files_from" in str(answer) for answer in answers[:3])


def test_a_file_that_is_none(folder: dict[str, Any], tmp_path: Path):
    """What is missing, a folder or a pipe fails at once: nothing waits for a pipe's writer."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with worker(folder, files_from=str(tmp_path)) as w:
        answers = [w.put(None, file=name) for name in ("missing", "folder", "pipe", "a\0b")]
    assert [type(answer) for answer in answers] == [PermanentError] * 4
    assert "No such file" in str(answers[0])
    assert "no regular file" in str(answers[1]) + str(answers[2])


@pytest.mark.parametrize("change", [b"", b"x" * 3 * _MIB], ids=["shorter", "longer"])
def test_a_file_that_changes(change: bytes, bucket: Bucket, tmp_path: Path):
    """A file that grows or shrinks while it is read is no object: neither half of it nor a mixture."""
    path = tmp_path / "log"
    path.write_bytes(b"x" * 2 * _MIB)
    with path.open("rb", buffering=0) as file:
        chunks = in_chunks(file, 2 * _MIB, pack=False, given_up=lambda: False)
        next(chunks)
        path.write_bytes(change)
        with pytest.raises(PermanentError, match="changed while it was read"):
            list(chunks)


def test_an_upload_that_is_given_up_leaves_nothing(bucket: Bucket, tmp_path: Path):
    """When the connection is closed in the midst of a file, no object is there, and no unfinished upload."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(200 * _MIB)
    with worker(bucket.settings(part_bytes=5 * _MIB), file=str(tmp_path / "large")) as w:
        message = w.message(None)
        w.handler.handle_deliveries([message], w.state)
        wait_until(lambda: bool(_unfinished(bucket)))
        w.close()
        wait_until(lambda: message.seq in w.answers)
        assert type(w.answers[message.seq]) is ConnectionLostError
    assert bucket.names() == []
    assert _unfinished(bucket) == []


def _unfinished(bucket: Bucket) -> list[Any]:
    found: list[Any] = bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    return found


_UPLOAD = """
import resource, sys
from rambla_py import Rambla
url, large, packed = sys.argv[1:]
options = {"file": large, "path": "{id}", "compression": packed}
table = {"connections": {"main": {"url": url}}, "channels": {"files": {"options": options}, "small": {}}}
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
with Rambla({"objects": table}) as app:
    app.publish("small", b"x" * 1_000_000).result(timeout_s=10)
    before = peak()
    print(app.publish("files", None).result(timeout_s=30)["bytes"], peak() - before)
"""


@pytest.mark.parametrize("packed", ["none", "gzip"])
def test_a_file_is_never_whole_in_memory(packed: str, folder: dict[str, Any], tmp_path: Path):
    """A file of 200 MB takes some tens of megabytes to upload."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(200 * _MIB)
    done = subprocess.run(
        [sys.executable, "-c", _UPLOAD, folder["url"], str(large), packed],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    size, grown_mib = map(int, done.stdout.split())
    assert (size == 200 * _MIB) == (packed == "none")
    assert grown_mib < 120


# -- processes, options, callables --------------------------------------------------------------------------

_FORK = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from rambla_py import Rambla
table = {"connections": {"main": {"url": sys.argv[1]}}, "channels": {"orders": {"options": {"expires_s": 1}}}}
with Rambla({"objects": table}) as app:
    if sys.argv[2] == "used":
        app.publish("orders", "parent", id="parent").result(timeout_s=10)
    child = os.fork()
    if not child:
        outcome = app.publish("orders", "child", id="child").outcomes(timeout_s=10)[0]
        print(outcome.status, app.status()["objects.orders"].state, app.status()["objects.orders"].last_error)
        sys.stdout.flush()
        app.stop(timeout_s=1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    app.publish("orders", "later", id="later").result(timeout_s=10)
"""


@pytest.mark.parametrize("used", ["unused", "used"])
def test_after_a_fork(used: str, folder: dict[str, Any], tmp_path: Path):
    """A forked child can publish; where the parent had before, it says why not, and never hangs."""
    done = subprocess.run(
        [sys.executable, "-c", _FORK, folder["url"], used],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    stored = {path.name for path in (tmp_path / "objects").iterdir()}
    if used == "unused":
        assert done.stdout.startswith("ok")
        assert stored == {"child", "later"}
    else:
        assert done.stdout.startswith("expired down")
        assert "publish to object stores after the fork only" in done.stdout
        assert stored == {"parent", "later"}


def test_an_option_that_contradicts_the_channels(folder: dict[str, Any]):
    """An option of one message is checked together with those of its channel."""
    channels = {"orders": {"options": {"body_format": "ndjson"}}}
    with rambla_py.Rambla({"objects": {"connections": {"main": folder}, "channels": channels}}) as app:
        with pytest.raises(OptionError, match="batches would share an object"):
            app.publish("orders", {}, path="latest")
        with pytest.raises(OptionError, match=r"did you mean \{id\}"):
            app.publish("orders", {}, path="{idd}")


def test_a_callable_is_given_the_store(unique_name: str):
    """A callable payload works on the store itself with obstore's functions."""

    def names(*, source: Any, destination: Any, options: Any) -> list[str]:
        return [found["path"] for found in obstore.list(destination).collect()]

    table = {"connections": {"main": {"url": f"memory://{unique_name}"}}, "channels": {"orders": {}}}
    with rambla_py.Rambla({"s3": table}) as app:
        app.publish("orders", "x", id="a").result(timeout_s=_WAIT_S)
        assert app.publish("orders", names).result(timeout_s=_WAIT_S) == ["a"]
