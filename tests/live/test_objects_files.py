"""Tests of files as objects, and of processes, options and callables."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pytest
from object_worker import MIB, WAIT_S, Bucket, worker
from waiting import wait_until
from web_server import Reply, Seen, WebServer

import rambla_py
from rambla_py import Secret
from rambla_py.errors import (
    ConnectionLostError,
    DeliveryError,
    OptionError,
    PermanentError,
)
from rambla_py.handlers.objects.encode import in_chunks


def test_a_file_of_the_channel(folder: dict[str, Any], tmp_path: Path):
    """A channel may name a file of its own, wherever it is."""
    (tmp_path / "state.json").write_text("[]")
    with worker(folder, file=str(tmp_path / "state.json"), path="{date:%Y}.json") as w:
        result = w.put(None)
    assert result["bytes"] == 2


def test_a_file_of_a_message_needs_leave(folder: dict[str, Any], tmp_path: Path):
    """A message may not name any file of the machine: the option may come from untrusted input."""
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
    assert "not a regular file" in str(answers[1]) + str(answers[2])


@pytest.mark.parametrize("change", [b"", b"x" * 3 * MIB], ids=["shorter", "longer"])
def test_a_file_that_changes(change: bytes, bucket: Bucket, tmp_path: Path):
    """A file that grows or shrinks while it is read is no object: neither half of it nor a mixture."""
    path = tmp_path / "log"
    path.write_bytes(b"x" * 2 * MIB)
    with path.open("rb", buffering=0) as file:
        chunks = in_chunks(file, 2 * MIB, pack=False, given_up=lambda: False)
        next(chunks)
        path.write_bytes(change)
        with pytest.raises(PermanentError, match="changed while it was read"):
            list(chunks)


def test_an_upload_that_is_given_up_leaves_nothing(bucket: Bucket, tmp_path: Path):
    """When the connection is closed in the midst of a file, no object is there, and no unfinished upload."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(200 * MIB)
    with worker(bucket.settings(part_bytes=5 * MIB), file=str(tmp_path / "large")) as w:
        message = w.message(None)
        w.handler.handle_deliveries([message], w.state)
        wait_until(lambda: bool(_unfinished(bucket)))
        w.close()
        wait_until(lambda: message.seq in w.settlements)
        assert type(w.settlements[message.seq]) is ConnectionLostError
    assert bucket.names() == []
    wait_until(lambda: not _unfinished(bucket))  # the driver removes it after it has raised


_STARTED = (
    b"<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId>"
    b"</InitiateMultipartUploadResult>"
)
_COMPLETED = b'<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>'


def _in_parts(server: WebServer, file: Path, answer: Callable[[Seen], Reply]) -> Any:
    """Return what came of a file in parts of 5 MiB; ``answer`` answers the parts, and the abort."""

    def answered(seen: Seen) -> Reply:
        if seen.method == "GET":  # what connecting asks for
            return Reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
        if seen.method == "POST":
            return Reply(body=_STARTED if "uploads" in seen.query else _COMPLETED)
        return answer(seen)

    server.answer = answered
    file.write_bytes(bytes(12 * MIB))
    keys = {"access_key_id": "a", "secret_access_key": Secret("s"), "region": "us-east-1"}
    settings = {"url": "s3://bucket", "endpoint": server.url, "part_bytes": 5 * MIB, **keys}
    with worker(settings, file=str(file)) as w:
        return w.put(None)


def test_a_part_that_fails_once_is_sent_again(web_server: WebServer, tmp_path: Path):
    """A part that meets a 500 does not cost the whole file."""
    parts: list[str] = []

    def answer(seen: Seen) -> Reply:
        parts.append(seen.query["partNumber"][0])
        return Reply(500 if parts.count("2") == 1 and parts[-1] == "2" else 200, headers={"ETag": '"p"'})

    assert _in_parts(web_server, tmp_path / "large", answer)["bytes"] == 12 * MIB
    assert sorted(parts) == ["1", "2", "2", "3"]


def test_an_abort_that_fails_once_is_sent_again(web_server: WebServer, tmp_path: Path):
    """A store may refuse to abort an upload while one of its parts arrives."""
    aborts: list[Seen] = []

    def answer(seen: Seen) -> Reply:
        if seen.method != "DELETE":
            return Reply(400, b"<Error><Code>InvalidPart</Code></Error>")
        aborts.append(seen)
        return Reply(500 if len(aborts) == 1 else 204)

    assert isinstance(_in_parts(web_server, tmp_path / "large", answer), DeliveryError)
    wait_until(lambda: len(aborts) == 2)


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
        file.truncate(200 * MIB)
    done = subprocess.run(
        [sys.executable, "-c", _UPLOAD, folder["url"], str(large), packed],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    size, grown_mib = map(int, done.stdout.split())
    assert (size == 200 * MIB) == (packed == "none")
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
        assert "publish to object stores only after the fork" in done.stdout
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
        app.publish("orders", "x", id="a").result(timeout_s=WAIT_S)
        assert app.publish("orders", names).result(timeout_s=WAIT_S) == ["a"]


_ENDING = """
import sys, threading
import rambla_py as rambla

def refuse(*arguments, **named):
    raise RuntimeError("can't create new thread at interpreter shutdown")

def end():
    threading._start_new_thread = threading._start_joinable_thread = refuse

threading._register_atexit(end)  # the hooks run in reverse: before that of rambla_py
store = {"connections": {"main": {"url": sys.argv[1]}}, "channels": {"to": {"options": {"path": "{payload.n}"}}}}
app = rambla.Rambla({"objects": store})
app.start()
for n in range(20):
    app.publish("to", {"n": n})
"""


def test_an_ending_interpreter_without_new_threads(tmp_path: Path):
    """What was published just before the end is put without a thread, which Python 3.12 no longer starts."""
    run = subprocess.run(
        [sys.executable, "-c", _ENDING, f"file://{tmp_path}/objects"],
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert (run.stderr, len(list((tmp_path / "objects").iterdir()))) == ("", 20)
