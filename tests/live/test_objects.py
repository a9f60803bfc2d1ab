"""Tests of the objects handler against S3, with and without TLS."""

from __future__ import annotations

import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from object_fixtures import REGION
from object_worker import MIB, Bucket, refusal, worker

from rambla_py._internal.tls import TlsTable
from rambla_py.errors import (
    AccessError,
    PermanentError,
    SerializationError,
)
from rambla_py.handler import Secret
from rambla_py.testing.ports import free_port
from rambla_py.testing.s3 import MotoServer
from rambla_py.testing.servers import TlsFiles


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
    """Many puts are in flight at a time, and each message has its own result."""
    with worker(bucket.settings(concurrency=16)) as w:
        answers = w.send(*(w.message({"n": n}, id=f"m-{n}") for n in range(200)))
    assert [answer["url"] for answer in answers] == [f"s3://{bucket.name}/m-{n}" for n in range(200)]
    assert sorted(bucket.names()) == sorted(f"m-{n}" for n in range(200))


def test_a_file_in_parts(bucket: Bucket, tmp_path: Path):
    """A large file goes in parts, and is whole with its attributes at the end."""
    content = os.urandom(12 * MIB)
    (tmp_path / "backup.csv").write_bytes(content)
    with worker(bucket.settings(part_bytes=5 * MIB), files_from=str(tmp_path), path="{payload.name}") as w:
        result = w.put({"name": "b.csv"}, file="backup.csv", id="m")
    found = bucket.get("b.csv")
    assert found["Body"] == content
    assert found["ETag"].endswith('-3"')
    assert (found["ContentType"], found["Metadata"]["id"]) == ("text/csv", "m")
    assert result["bytes"] == len(content)


def test_a_large_payload_goes_in_parts(bucket: Bucket):
    """Bytes that are longer than a part go in several, too."""
    with worker(bucket.settings(part_bytes=5 * MIB)) as w:
        w.put(b"x" * 6 * MIB, id="large")
    found = bucket.get("large")
    assert (len(found["Body"]), found["ETag"][-3:]) == (6 * MIB, '-2"')


def test_lines(bucket: Bucket):
    """A batch becomes one gzipped object of JSON lines; each message has an outcome of its own."""
    with worker(bucket.settings(), body_format="ndjson", path="{date:%Y}/{id}.jsonl.gz") as w:
        messages = [w.message({"n": n}, id=f"m-{n}") for n in range(500)]
        messages[100] = w.message({"n": object()}, id="poison", snapshot=False)
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


def _tls_settings(server: MotoServer, **tls: Any) -> dict[str, Any]:
    keys = {"access_key_id": "k", "secret_access_key": Secret("s")}
    endpoint = f"https://localhost:{server.port}"
    return {"url": "s3://secure", "endpoint": endpoint, "region": REGION, "tls": TlsTable(**tls), **keys}


def test_tls(moto_tls_server: MotoServer, tls_files: TlsFiles):
    """Objects are sent over TLS if the authority is known, or not verified."""
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
    error = refusal(url="s3://b", endpoint="https://localhost", tls=TlsTable(ca_file="/nowhere/ca.pem"))
    assert type(error) is AccessError
    assert "/nowhere/ca.pem" in str(error)
