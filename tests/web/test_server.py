"""The operations page that is served with the app."""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from small_apps import TIMEOUT_S, until

from rambla_py import Rambla
from rambla_py.testing import TlsFiles
from rambla_py.testing.ports import free_port
from rambla_py.web.server import OpsServer
from rambla_py.web.sockets import bind_socket, siblings, socket_path

TOKEN = "a-token-of-tests"


@pytest.fixture(autouse=True)
def _runtime_folder(tmp_path: Path) -> Iterator[None]:
    """Give the sockets of each test a folder of their own; the path of a socket may be short only."""
    folder = Path(f"/tmp/rambla-test-{os.getpid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    yield
    if before is None:
        del os.environ["XDG_RUNTIME_DIR"]
    else:
        os.environ["XDG_RUNTIME_DIR"] = before
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def app_of(**web: Any) -> Rambla:
    table = {"enabled": True, "token": TOKEN, **web}
    telemetry = {"name": "shop"}
    return Rambla({"rambla": {"web": table, "telemetry": telemetry}, "memory": {"channels": {"orders": {}}}})


def get(url: str, context: ssl.SSLContext | None = None) -> bytes:
    asked = urllib.request.Request(url, headers={"authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(asked, timeout=TIMEOUT_S, context=context) as answer:
        return bytes(answer.read())


def answers(port: int) -> bool:
    try:
        return json.loads(get(f"http://127.0.0.1:{port}/livez")) is not None
    except OSError:
        return False


def test_the_page_is_there_while_the_app_runs() -> None:
    """Also after another start; and it wants the token of the configuration."""
    port = free_port()
    app = app_of(port=port)
    for _ in range(2):
        with app:
            assert until(lambda: answers(port))
            status = json.loads(get(f"http://127.0.0.1:{port}/status.json"))
            assert (status["name"], status["pid"], list(status["targets"])) == (
                "shop",
                os.getpid(),
                ["memory.orders"],
            )
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/status.json", timeout=TIMEOUT_S)
        assert until(lambda: not answers(port))


def test_a_taken_port_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Workers of a server that forks have one configuration: the app runs, and its socket answers."""
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        app_of(port=taken.getsockname()[1], socket="auto") as app,
    ):
        assert until(lambda: os.path.exists(socket_path("auto", "shop")))
        assert app.publish("orders", 1).outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"
    (record,) = [one for one in caplog.records if one.name == "rambla_py.web"]
    assert record.levelno == logging.WARNING
    assert "not served on 127.0.0.1" in record.getMessage()
    assert "Address already in use" in record.getMessage()


def test_processes_of_an_app_are_shown_together() -> None:
    """A forked child serves its own figures on a socket of its own, and each process can show all."""
    port = free_port()
    with app_of(port=port, socket="auto") as app:
        assert until(lambda: answers(port))
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writer)
            app.publish("orders", 1).outcomes(timeout_s=TIMEOUT_S)
            os.read(reader, 1)  # until the parent has asked
            os._exit(0)
        os.close(reader)
        try:
            assert until(lambda: [pid for pid, _ in siblings("shop")] == [child])
            assert until(lambda: accepted(port) == {str(os.getpid()): 0, str(child): 1})
            text = get(f"http://127.0.0.1:{port}/metrics?all=1").decode()
        finally:
            os.close(writer)
            os.waitpid(child, 0)
        samples = [line for line in text.splitlines() if line.startswith("rambla_accepted_total")]
        assert [line.partition("pid=")[2] for line in samples] == [
            f'"{os.getpid()}"}} 0',
            f'"{child}"}} 1',
        ]
        assert text.count("# TYPE rambla_accepted_total counter") == 1
        assert list(accepted(port)) == [str(os.getpid())]  # the child has ended, and left its socket
        assert list(siblings("shop")) == []
        assert os.listdir(os.path.dirname(socket_path("auto", "shop"))) == [f"shop-{os.getpid()}.sock"]


def test_the_socket_of_a_process_that_is_about_to_listen_stays() -> None:
    """A search between its bind and its listen does not remove it; the socket of a dead process is removed."""
    with subprocess.Popen(["sleep", "60"]) as living, subprocess.Popen(["true"]) as ended:
        try:
            assert ended.wait(TIMEOUT_S) == 0
            folder = os.path.dirname(socket_path("auto", "shop"))
            for process in (living, ended):
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
                    bound.bind(f"{folder}/shop-{process.pid}.sock")
            assert list(siblings("shop")) == []
            assert os.listdir(folder) == [f"shop-{living.pid}.sock"]
        finally:
            living.kill()


def accepted(port: int) -> dict[str, int]:
    document = json.loads(get(f"http://127.0.0.1:{port}/status.json?all=1"))
    return {pid: one["targets"]["memory.orders"]["accepted"] for pid, one in document["processes"].items()}


def test_others_are_not_asked_without_sockets() -> None:
    """The answer says what to set."""
    port = free_port()
    with app_of(port=port):
        assert until(lambda: answers(port))
        with pytest.raises(urllib.error.HTTPError, match="400") as refused:
            get(f"http://127.0.0.1:{port}/status.json?all=1")
        assert b'socket = \\"auto\\"' in refused.value.read()


def test_https(tls_files: TlsFiles) -> None:
    """The port takes TLS; the socket, which only the user can open, does not."""
    port = free_port()
    files = {"tls_cert": str(tls_files.certificate), "tls_key": str(tls_files.key)}
    context = ssl.create_default_context(cafile=str(tls_files.authority))
    with app_of(port=port, socket="auto", **files):
        assert until(lambda: os.path.exists(socket_path("auto", "shop")))
        assert json.loads(get(f"https://localhost:{port}/livez", context)) is not None
        assert json.loads(get_unix(socket_path("auto", "shop"), "/livez")) is not None


def get_unix(path: str, target: str) -> bytes:
    connection = http.client.HTTPConnection("localhost", timeout=TIMEOUT_S)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with closing(connection):
        connection.sock.connect(path)
        connection.request("GET", target)
        return connection.getresponse().read()


def test_a_client_that_stays_does_not_hold_up_the_stop() -> None:
    """The connection is closed, and the socket's file removed."""
    port = free_port()
    with app_of(port=port, socket="auto"):
        assert until(lambda: answers(port))
        stays = socket.create_connection(("127.0.0.1", port))
    with stays:
        stays.settimeout(TIMEOUT_S)
        assert stays.recv(1) == b""
    assert not os.path.exists(socket_path("auto", "shop"))


def test_a_socket_without_a_listener_is_replaced(tmp_path: Path) -> None:
    """One with a listener, and any other file, is not."""
    path = str(Path(os.environ["XDG_RUNTIME_DIR"]) / "s")
    with closing(bind_socket(path)):
        assert os.stat(path).st_mode & 0o777 == 0o600
        with pytest.raises(OSError, match="another process listens"):
            bind_socket(path)
    bind_socket(path).close()
    os.unlink(path)
    Path(path).write_text("mine")
    with pytest.raises(FileExistsError, match="is no socket"):
        bind_socket(path)
    assert Path(path).read_text() == "mine"


def test_a_folder_that_others_may_enter_is_refused() -> None:
    """They could put a socket of theirs in it."""
    (Path(os.environ["XDG_RUNTIME_DIR"]) / "rambla").mkdir(mode=0o700)
    assert socket_path("auto", "a/b").endswith(f"/rambla/a_b-{os.getpid()}.sock")
    (Path(os.environ["XDG_RUNTIME_DIR"]) / "rambla").chmod(0o755)
    with pytest.raises(PermissionError, match="mode 0700"):
        socket_path("auto", "shop")


def test_doubles_of_a_test_open_no_port(rambla: Any) -> None:
    """An application's tests run beside each other with one configuration."""
    app = app_of(port=free_port())
    server = OpsServer(app)
    app._lifecycle.accompany(server)
    with app:
        app.publish("orders", 1).outcomes(timeout_s=TIMEOUT_S)
        assert server.addresses == []
