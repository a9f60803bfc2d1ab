"""``rambla state serve`` as a process of its own, and the store that talks to it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from rambla_py import Rambla
from rambla_py.state import (
    HttpStore,
    StateAccessError,
    StateKeyError,
    StateTooLargeError,
    StateUnavailableError,
    generate_key,
)
from rambla_py.testing import FaultProxy, TlsFiles
from rambla_py.testing.harness import until
from rambla_py.testing.ports import HOST, free_port
from rambla_py.testing.state_server import StateServer

TOKEN = "canary-t0ken"
PROGRAM = [sys.executable, "-m", "rambla_py", "state", "serve"]
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def running() -> Iterator[StateServer]:
    with StateServer(token=TOKEN, config=["--max-body-bytes", "100000"]) as server:
        yield server


@pytest.fixture
def server(running: StateServer) -> StateServer:
    """A server that a test may pause or kill, without records."""
    running.resume() if running.running else running.start()
    with HttpStore(running.url, token=TOKEN) as store:
        store.clear()
    return running


def ask(server: StateServer, method: str, path: str, body: Any = None, token: str | None = TOKEN) -> Any:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, json.loads(data) if data[:1] in (b"{", b"n") else data


def test_records_survive_the_death_of_the_server(server: StateServer) -> None:
    """Killed and started again: the store goes on over a new connection, and what it set is there."""
    with HttpStore(server.url, token=TOKEN) as store:
        record = store.set("a", {"n": 1}, expires_s=60)
        server.kill()
        with pytest.raises(StateUnavailableError) as caught:
            store.get("a")
        assert server.url in str(caught.value)
        server.start()
        assert store.get("a") == record
        server.restart()
        assert store.set("a", 2).created_at == record.created_at


def test_whoever_has_no_token_reads_the_health_alone(server: StateServer) -> None:
    """Every other request is refused, and the store says so at ``init``."""
    assert ask(server, "GET", "/health", token=None) == (
        200,
        {"about": "rambla state", "status": "ok", "authorized": False},
    )
    for token in (None, "wrong", "Grüße"):
        for method, path in (("GET", "/records"), ("DELETE", "/records"), ("POST", "/records")):
            status, said = ask(server, method, path, token=None if token is None else token.encode("utf-8"))
            assert (status, said["error"]) == (401, "StateAccessError")
    for token in (None, "wrong"):
        with pytest.raises(StateAccessError, match="token"):
            HttpStore(server.url, token=token).init()


def test_the_token_shows_nowhere(server: StateServer) -> None:
    """Not in the server's log, its arguments, or the store's errors."""
    store = HttpStore(server.url, token=TOKEN)
    with pytest.raises(StateAccessError) as caught, HttpStore(server.url, token=TOKEN + "x") as other:
        other.get("a")
    arguments = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode()
    assert TOKEN not in server.log_tail() + arguments + repr(store) + str(caught.value)
    assert "with a token" in server.log_tail()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("GET", "/record", None, 400, "StateKeyError"),
        ("GET", "/record?key=", None, 400, "StateKeyError"),
        ("DELETE", "/record?key=" + "k" * 2000, None, 400, "StateKeyError"),
        ("POST", "/records", b"{", 400, "StateValueError"),
        ("POST", "/records", b'{"value": 1}', 400, "StateValueError"),
        ("POST", "/records", b'{"values": {"a": 1}, "expires_s": -1}', 400, "StateValueError"),
        ("POST", "/records", b'{"values": {"": 1}}', 400, "StateKeyError"),
        ("POST", "/records", b"\xff", 400, "StateValueError"),
        ("PUT", "/record", b'{"record": {"key": "a"}}', 400, "StateValueError"),
        ("POST", "/records", b'{"values": {"a": "%s"}}' % (b"x" * 100_000), 413, "StateTooLargeError"),
    ],
)
def test_a_wrong_request_is_refused_by_name(
    server: StateServer, method: str, path: str, body: bytes | None, status: int, error: str
) -> None:
    """Nothing is written, and the server goes on."""
    got, said = ask(server, method, path, body)
    assert (got, said["error"]) == (status, error)
    assert said["message"]
    assert ask(server, "GET", "/records") == (200, {"records": []})


def test_what_is_not_served_is_not_found(server: StateServer) -> None:
    """A path that is not there, a method that it has not."""
    assert ask(server, "GET", "/")[0] == 404
    assert ask(server, "PATCH", "/records")[0] == 405


def test_a_value_over_the_servers_limit_is_reported_with_both_sizes(server: StateServer) -> None:
    """The limit is the server's; a smaller one still goes."""
    with HttpStore(server.url, token=TOKEN) as store:
        with pytest.raises(StateTooLargeError) as caught:
            store.set("a", "x" * 200_000)
        assert caught.value.limit == 100_000
        assert caught.value.size > 200_000
        assert store.set("a", "x" * 1000) == store.get("a")


def test_a_server_that_is_silent_bounds_every_verb(server: StateServer) -> None:
    """It is frozen: a write has an unknown end, and ``init`` of another store ends too."""
    with HttpStore(server.url, token=TOKEN, timeout_s=0.6, connect_timeout_s=0.6) as store:
        store.set("a", 1)
        server.pause()
        with pytest.raises(StateUnavailableError, match=r"no answer within 0\.6 s") as caught:
            store.set("a", 2)
        assert caught.value.applied == "unknown"
        with pytest.raises(StateUnavailableError):
            HttpStore(server.url, token=TOKEN, connect_timeout_s=0.3).init()
        server.resume()
        assert store.set("a", 3).value == 3


def test_an_answer_that_is_lost_leaves_the_write_unknown(server: StateServer) -> None:
    """The connection goes between the request and the answer: the record may be there, and here is."""
    with FaultProxy(server.host, server.port) as proxy:
        url = f"http://{proxy.host}:{proxy.port}"
        with HttpStore(url, token=TOKEN) as store, HttpStore(server.url, token=TOKEN) as direct:
            proxy.cut_after(10, direction="down")
            with pytest.raises(StateUnavailableError) as caught:
                store.set("a", 1)
            assert caught.value.applied == "unknown"
            assert direct.get("a").value == 1
            assert store.get("a").value == 1


def test_an_answer_comes_at_once(server: StateServer) -> None:
    """No answer waits for the acknowledgement of its own head, which would take 40 ms each."""
    with HttpStore(server.url, token=TOKEN) as store:
        quickest = min(_took_s(lambda: store.get("a")) for _ in range(10))
    assert quickest < 0.03


def _took_s(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def test_a_server_that_is_not_there_is_reported_as_not_written() -> None:
    """A closed port."""
    url = f"http://{HOST}:{free_port()}"
    with pytest.raises(StateUnavailableError, match=r"cannot connect: .*refused") as caught:
        HttpStore(url).init()
    assert caught.value.applied == "no"


def test_another_kind_of_server_is_reported() -> None:
    """Something speaks HTTP at the address, or does not, and is no state server."""
    for said in (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"SSH-2.0-OpenSSH_9.2\r\n"):
        with socket.create_server((HOST, 0)) as listener:
            store = HttpStore(f"http://{HOST}:{listener.getsockname()[1]}", connect_timeout_s=5)
            child = os.fork()
            if child == 0:
                peer, _ = listener.accept()
                peer.recv(1000)
                peer.sendall(said)
                os._exit(0)
            with pytest.raises(StateUnavailableError):
                store.init()
            os.waitpid(child, 0)


def test_tls_with_the_right_name_and_with_a_wrong_one(tls_files: TlsFiles, tmp_path: Path) -> None:
    """The certificate of our authority is taken; one of a stranger, or of another name, is an access error."""
    other = trustme.CA()
    wrong = other.issue_cert("elsewhere.invalid")
    other.cert_pem.write_to_path(tmp_path / "authority.pem")
    wrong.private_key_pem.write_to_path(tmp_path / "key.pem")
    wrong.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    right = ["--tls-cert", str(tls_files.certificate), "--tls-key", str(tls_files.key)]
    with StateServer(config=right) as server:
        with HttpStore(server.url, ca_file=str(tls_files.authority)) as store:
            assert store.set("a", 1) == store.get("a")
        with pytest.raises(StateAccessError, match="certificate is not accepted"):
            HttpStore(server.url).init()
    with (
        StateServer(
            config=["--tls-cert", f"{tmp_path}/certificate.pem", "--tls-key", f"{tmp_path}/key.pem"]
        ) as server,
        pytest.raises(StateAccessError, match=r"(?i)mismatch|doesn't match|not valid for"),
    ):
        HttpStore(server.url, ca_file=f"{tmp_path}/authority.pem").init()
    with pytest.raises(StateAccessError, match="ca_file"):
        HttpStore("https://localhost:1", ca_file="missing.pem").init()


def test_a_server_with_a_key_keeps_what_nobody_can_read() -> None:
    """``RAMBLA_STATE_KEY``: values come back, and are not in the file; expired ones are removed from it."""
    environment = {"RAMBLA_STATE_KEY": generate_key()}
    with StateServer(config=["--cleanup", "0.05"], environment=environment) as server:
        with HttpStore(server.url) as store:
            store.set("a", "canary-value")
            store.set("gone", 1, expires_s=0.01)
            assert store.get("a").value == "canary-value"
            with sqlite3.connect(server.folder / "state.db") as file:
                assert until(lambda: file.execute("SELECT key FROM rambla_state").fetchall() == [("a",)])
            file.close()
        found = b"".join(path.read_bytes() for path in server.folder.glob("state.db*"))
        assert b"rambla-aes256gcm" in found
        assert b"canary-value" not in found


def test_a_server_that_is_gone_leaves_no_outcome_unknown(server: StateServer) -> None:
    """Nothing could be written: with ``on_unknown = "report"`` the message waits, and spends no attempt."""
    table = {
        "state": {
            "connections": {"main": {"url": server.url, "token": TOKEN}},
            "channels": {"orders": {"on_unknown": "report"}},
        }
    }
    with Rambla(table) as app:
        assert app.publish("orders", {"a": 1}).result(timeout_s=TIMEOUT_S) == 1
        server.kill()
        receipt = app.publish("orders", {"b": 1})
        assert until(lambda: any(why.startswith("connect:") for why in app.status()["state.orders"].reasons))
        server.start()
        outcome = receipt.outcomes(timeout_s=TIMEOUT_S)[0]
    assert (outcome.status, outcome.attempts) == ("ok", 1)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_its_code(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """Also while a client holds a connection; the database is closed in good order."""
    hear = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", hear, *PROGRAM, f"sqlite:///{tmp_path}/state.db", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stderr is not None
        url = process.stderr.readline().split(" at ")[1].split()[0]
        assert until(lambda: _opens(url))
        with HttpStore(url) as store:
            store.set("a", 1)
            process.send_signal(number)
            assert process.wait(TIMEOUT_S) == code
        assert process.stderr.read() == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.db"]


def _opens(url: str) -> bool:
    try:
        with HttpStore(url):
            return True
    except StateUnavailableError:
        return False


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["--host", "0.0.0.0"], 2, "0.0.0.0 is not loopback: set $RAMBLA_STATE_TOKEN first"),
        (["postgres://u:canary@h/db"], 2, "a url that is none of memory://name"),
        (["--tls-cert", "missing.pem"], 2, "--tls-cert and --tls-key go together"),
        (["--tls-cert", "missing.pem", "--tls-key", "missing.pem"], 2, "missing.pem"),
        (["sqlite:////proc/nowhere/state.db"], 1, "rambla: SqliteStore('/proc/nowhere/state.db'): "),
    ],
)
def test_what_cannot_be_served_is_reported_in_a_line(
    arguments: list[str], code: int, problem: str, tmp_path: Path
) -> None:
    """With its exit code, and without a traceback."""
    done = subprocess.run(
        [*PROGRAM, "--port", "0", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=TIMEOUT_S,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "RAMBLA_STATE_TOKEN"},
    )
    assert done.returncode == code, done.stderr
    assert problem in done.stderr
    assert "canary" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_reported(server: StateServer, tmp_path: Path) -> None:
    """With the address."""
    done = subprocess.run(
        [*PROGRAM, "--port", str(server.port)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{server.port}: " in done.stderr


def test_without_starlette_the_extra_is_named(tmp_path: Path) -> None:
    """One line that says what to install."""
    script = (
        "import sys; sys.modules['starlette'] = None; sys.argv = ['rambla', 'state', 'serve', '--port', '0']"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; from rambla_py.cli import main; main()"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 1
    assert "needs the extra 'web'; install it with: pip install 'rambla-py[web]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_key_is_checked_before_anything_is_sent(server: StateServer) -> None:
    """A bad key needs no server to be refused."""
    with HttpStore(server.url, token=TOKEN) as store:
        server.kill()
        with pytest.raises(StateKeyError):
            store.get("")
