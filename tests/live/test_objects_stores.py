"""Tests of the objects handler against other stores, and of writing once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from object_server import ObjectServer
from object_worker import MIB, Bucket, gs_or_az_settings, refusal, worker

from rambla_py._internal.tls import TlsTable
from rambla_py.errors import (
    AccessError,
    PayloadTooLargeError,
    PermanentError,
)
from rambla_py.handler import Secret
from rambla_py.handlers.objects import ObjectsHandler, memory_store
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.servers import TlsFiles


@pytest.fixture(params=["gs", "az"])
def other(request: pytest.FixtureRequest) -> ObjectServer:
    server: ObjectServer = request.getfixturevalue(f"{request.param}_server")
    return server


def test_the_other_protocols(other: ObjectServer, unique_name: str, tmp_path: Path):
    """Bytes, attributes, ids, and files in parts arrive in Google's and in Azure's protocol."""
    (tmp_path / "f").write_bytes(os.urandom(11 * MIB))
    settings = gs_or_az_settings(other, unique_name, part_bytes=5 * MIB)
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
    settings = gs_or_az_settings(other, unique_name, endpoint=endpoint)
    with worker({**settings, "tls": TlsTable(ca_file=str(tls_files.authority))}) as w:
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
    with worker(gs_or_az_settings(gs_server, unique_name), tags={"a": "b"}) as w:
        assert "gs:// has no tags" in str(w.put("x"))
    assert gs_server.stored(unique_name) == []


def test_what_a_store_refuses_fails_alone(az_server: ObjectServer, unique_name: str):
    """A message that the store refuses for its metadata is fatal, and the others are there."""
    with worker(gs_or_az_settings(az_server, unique_name)) as w:
        messages = [w.message("x", id=f"m-{n}") for n in range(50)]
        messages[20].headers = {"no-hyphens-in-azure": "x"}
        answers = w.send(*messages)
    assert [at for at, answer in enumerate(answers) if not isinstance(answer, dict)] == [20]
    assert type(answers[20]) is PermanentError
    assert "InvalidMetadata" in str(answers[20])
    assert len(az_server.stored(unique_name)) == 49


@pytest.fixture(params=["s3", "gs", "az", "memory"])
def store(request: pytest.FixtureRequest, unique_name: str) -> dict[str, Any]:
    """The table of a connection to each kind of store that keeps metadata."""
    if request.param == "memory":
        return {"url": f"memory://{unique_name}"}
    if request.param == "s3":
        found: Bucket = request.getfixturevalue("bucket")
        return found.settings()
    return gs_or_az_settings(request.getfixturevalue(f"{request.param}_server"), unique_name)


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
    (tmp_path / "large").write_bytes(b"x" * (5 * MIB + 1))
    with worker({**folder, "part_bytes": 5 * MIB}, file=str(tmp_path / "large"), if_none_match=True) as w:
        error = w.put(None)
    assert type(error) is PayloadTooLargeError
    assert "part_bytes is 5242880" in str(error)


def test_a_folder_is_made(folder: dict[str, Any], tmp_path: Path):
    """The folder of the URL is made, and those that paths need below it."""
    with worker(folder, path="{date:%Y}/{id}.txt") as w:
        w.put("x", id="a")
    assert [path.name for path in (tmp_path / "objects").glob("*/*")] == ["a.txt"]


@pytest.mark.parametrize("name", ["%2e%2e", "%2F..", "a b", "é", "...", "a#b"])
def test_a_name_in_a_folder(name: str, folder: dict[str, Any], tmp_path: Path):
    """A name is taken as it is: nothing in it is decoded, and nothing leads out of the folder."""
    with worker(folder, path="sub/{id}") as w:
        assert isinstance(w.put("x", id=name), dict)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [name]
    assert (tmp_path / "objects" / "sub" / name).read_text() == "x"


def test_ids_that_the_driver_reserves(folder: dict[str, Any], tmp_path: Path):
    """Ids that end in # and digits are stored under a name of their own, and are named in the result."""
    with worker(folder, path="sub/{id}") as w:
        results = [w.put("x", id=name) for name in ("a#1", "a%231")]
    assert [result["url"].rpartition("/")[2] for result in results] == ["a%231", "a%25231"]
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"a%231", "a%25231"}


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
        with pytest.raises(AccessError, match="no longer exists"):
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


_LETTERS = st.characters(
    codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Cn"), exclude_characters="/\\"
)
_NAMES = st.text(_LETTERS, min_size=1, max_size=20).filter(lambda name: name not in (".", ".."))
_ODD = [
    "a\u200db",
    "\u3000",
    "a\u00a0b",
    " a ",
    "\u202eb",
    "e\u0301",
    "é",
    "\U0001f468\u200d\U0001f469",
    "a#1",
    "%41",
    "a+b",
    "a:",
    "b|",
]


@pytest.mark.parametrize("kind", ["s3", "gs", "az", "file", "memory"])
def test_names_of_any_characters(kind: str, request: pytest.FixtureRequest, unique_name: str, tmp_path: Path):
    """What is put under a name is found under it, and beside no other, in every store."""
    if kind == "file":
        settings = request.getfixturevalue("folder")
    elif kind == "memory":
        settings = {"url": f"memory://{unique_name}"}
    elif kind == "s3":
        settings = request.getfixturevalue("bucket").settings()
    else:
        settings = gs_or_az_settings(request.getfixturevalue(f"{kind}_server"), unique_name)
    place = ObjectsHandler.Connection(**settings).place
    with worker(settings, path="{key}/{payload.name}") as w:

        @hypothesis_settings(max_examples=15, deadline=None)
        @example(names=_ODD)
        @given(names=st.lists(_NAMES, min_size=1, max_size=10, unique=True))
        def round_trip(names: list[str]) -> None:
            messages = [w.message({"name": name}) for name in names]
            for message in messages:
                message.key = "top"
            for name, answer in zip(names, w.send(*messages), strict=True):
                assert isinstance(answer, dict), answer
                found = obstore.get(w.handler.destination(w.connection), place.stored(f"top/{name}")).bytes()
                assert json.loads(bytes(found)) == {"name": name}

        round_trip()
    if kind == "file":
        names = {path.name for path in (tmp_path / "objects" / "top").iterdir()}
        assert names >= {place.stored(name) for name in _ODD}
    elif kind == "s3":
        assert set(request.getfixturevalue("bucket").names()) >= {f"top/{name}" for name in _ODD}
    elif kind in ("gs", "az"):
        stored = {
            one.path.rpartition("/top/")[2]
            for one in request.getfixturevalue(f"{kind}_server").stored(unique_name)
        }
        assert stored >= set(_ODD)
