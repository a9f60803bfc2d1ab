"""Tests of what the objects handler does with the answers of a store."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from object_fixtures import REGION
from object_server import ObjectServer
from object_worker import MIB, WAIT_S, Bucket, gs_or_az_settings, kinds, refusal, worker
from waiting import wait_until

import rambla_py
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    UnavailableError,
    UnknownOutcomeError,
)
from rambla_py.handler import Secret
from rambla_py.handlers.objects.errors import StoreTooLargeError
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.ports import free_port
from rambla_py.testing.servers import Server


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
    shown = body if body is not None else f"<Error><Code>{code}</Code><Message>a reason</Message></Error>"
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(shown)}\r\n\r\n{shown}".encode()


NOTHING_THERE = _http("404 Not Found", "NoSuchKey")


def _at(port: int, **changes: Any) -> dict[str, Any]:
    keys = {"access_key_id": "k", "secret_access_key": Secret("canary")}
    endpoint = f"http://127.0.0.1:{port}"
    return {"url": "s3://bucket", "endpoint": endpoint, "region": REGION, "timeout_s": 0.3, **keys, **changes}


@pytest.mark.parametrize(
    ("answer", "kind", "shown"),
    [
        (_http("500 Oops", "InternalError"), RejectedError, "500 InternalError: a reason"),
        (_http("503 Slow", "SlowDown"), UnavailableError, "SlowDown"),
        (_http("503 Busy", "ServerBusy"), UnavailableError, "ServerBusy"),
        (_http("429 Slow", body=""), UnavailableError, "429"),
        (_http("501 No", "NotImplemented"), PermanentError, "NotImplemented"),
        (_http("502 Gateway", body="<html>"), UnknownOutcomeError, "may have been stored"),
        (_http("504 Gateway", body=""), UnknownOutcomeError, "may have been stored"),
        (_http("409 Conflict", "OperationAborted"), RejectedError, "OperationAborted"),
        (_http("403 No", "AccessDenied"), RejectedError, "AccessDenied"),
        (_http("403 No", "SignatureDoesNotMatch"), AccessError, "the credentials were refused"),
        (_http("401 No", body=""), AccessError, "the credentials were refused"),
        (_http("400 No", "ExpiredToken"), AccessError, "the credentials were refused"),
        (_http("404 No", "NoSuchBucket"), AccessError, "create it"),
        (_http("404 No", body="<html>"), AccessError, "is the endpoint right?"),
        (_http("301 Elsewhere", body=""), AccessError, "is the region"),
        (_http("400 No", "KeyTooLongError"), PermanentError, "KeyTooLongError"),
        (_http("400 No", "EntityTooLarge"), StoreTooLargeError, "larger than the store allows"),
        (_http("413 No", body=""), StoreTooLargeError, "larger than the store allows"),
        (b"", UnknownOutcomeError, "lost before the answer"),
        (SILENCE, UnknownOutcomeError, "no answer within the connection's timeout_s"),
    ],
)
def test_an_answer(answer: bytes, kind: type[DeliveryError], shown: str):
    """Each answer of a store, and the lack of one, is the error that says what may follow."""
    with _listener(NOTHING_THERE, answer) as port, worker(_at(port)) as w:
        error = w.put("x")
    assert type(error) is kind
    assert shown in str(error)
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
    (tmp_path / "f").write_bytes(os.urandom(12 * MIB))
    settings = bucket.settings(max_object_bytes=11 * MIB, part_bytes=5 * MIB)
    with worker(settings, file=str(tmp_path / "f"), compression=compression) as w:
        error = w.put(None)
    assert type(error) is PayloadTooLargeError
    assert error.size > error.limit == 11 * MIB
    assert bucket.names() == []


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (_http("404 No", body="<html>"), "is the endpoint right?"),
        (_http("503 Slow", "SlowDown"), "SlowDown"),
        (_http("401 No", body=""), "credentials"),
        (b"", "lost before the answer"),
        (SILENCE, "no answer within the connection's timeout_s"),
    ],
)
def test_a_connect_that_fails(answer: bytes, shown: str):
    """A store that cannot answer a look is not connected to."""
    with _listener(answer) as port:
        assert shown in str(refusal(**_at(port)))


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
    assert "does not speak TLS on this port" in str(error)


def test_what_was_not_begun_is_not_unknown():
    """After a loss, puts that wait for their turn count as never sent, not as unknown."""
    with _listener(NOTHING_THERE, SILENCE) as port, worker(_at(port, concurrency=1)) as w:
        answers = w.send(*(w.message("x") for _ in range(5)))
        assert kinds(answers) == {UnknownOutcomeError: 1, ConnectionLostError: 4}
        assert isinstance(answers[0], UnknownOutcomeError)
        assert type(w.put("later")) is ConnectionLostError


def test_a_put_that_is_slow_while_others_are_answered():
    """Of many in flight, one without an answer spends its own attempt; the connection goes on."""
    written = b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n'
    with _listener(NOTHING_THERE, SILENCE, *[written] * 20) as port, worker(_at(port, concurrency=2)) as w:
        answers = w.send(*(w.message("x") for _ in range(10)))
        assert kinds(answers) == {UnknownOutcomeError: 1, dict: 9}
        assert not next(one for one in answers if not isinstance(one, dict)).connection_lost
        assert isinstance(w.put("later"), dict)


def test_a_broken_connection_fails_alone_while_others_are_answered():
    """A put whose connection breaks fails alone once the store answers a later one."""
    written = b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n'
    with _listener(NOTHING_THERE, b"", *[written] * 20) as port, worker(_at(port, concurrency=1)) as w:
        answers = w.send(*(w.message("x") for _ in range(5)))
        assert kinds(answers) == {UnknownOutcomeError: 1, dict: 4}
        assert not answers[0].connection_lost
        assert isinstance(w.put("later"), dict)


def test_an_unavailable_store_costs_no_retries():
    """Puts wait until the store takes them, without spending retries."""
    written = b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n'
    slow_down = _http("503 Slow Down", "SlowDown")
    with _listener(NOTHING_THERE, slow_down, slow_down, *[written] * 20) as port:
        channel = {"options": {"retries": 0}}
        table = {"connections": {"main": _at(port, timeout_s=5.0)}, "channels": {"orders": channel}}
        with rambla_py.Rambla({"objects": table}) as app:
            outcomes = app.publish_many("orders", ["x"] * 5).outcomes(timeout_s=WAIT_S)
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert sum(outcome.attempts for outcome in outcomes) == 7


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
        outcomes = app.publish_many("orders", ["x"] * 30).outcomes(timeout_s=WAIT_S)
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
        app.publish("orders", "x", path=unique_name).result(timeout_s=WAIT_S)
        proxy.black_hole()
        waiting = app.publish_many("orders", ["x"] * 10)
        wait_until(lambda: proxy.swallowed > 0)
        short = app.publish_many("orders", ["x"] * 10, expires_s=0.05)
        assert Counter(outcome.status for outcome in short.outcomes(timeout_s=WAIT_S)) == {"expired": 10}
        app.stop(timeout_s=0.1)
        statuses = Counter(outcome.status for outcome in waiting.outcomes(timeout_s=WAIT_S))
    assert statuses == {"unknown": 2, "dropped": 8}


def test_parts_of_a_file_are_progress(
    gs_server: ObjectServer, fault_proxy: Callable[[Server], FaultProxy], unique_name: str, tmp_path: Path
):
    """While the parts of a file go out, its attempt is not overdue, however long all of it takes."""
    proxy = fault_proxy(gs_server)
    (tmp_path / "large").write_bytes(b"x" * 32 * MIB)
    endpoint = f"http://{proxy.host}:{proxy.port}"
    settings = gs_or_az_settings(gs_server, unique_name, part_bytes=5 * MIB, endpoint=endpoint)
    with worker(settings, file=str(tmp_path / "large")) as w:
        proxy.throttle(20_000_000)
        message = w.message(None)
        w.handler.handle_deliveries([message], w.state)
        wait_until(lambda: bool(w.holds))
        assert message.seq not in w.settlements, "it was at its end: the test has proved nothing"
        wait_until(lambda: message.seq in w.settlements)
        assert w.settlements[message.seq]["bytes"] == 32 * MIB
    assert set(w.holds) == {False}


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
