"""External servers: started in order, restarted rest for one."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pykka
import pytest
from small_apps import Seen, one, probe, running, service, table, until
from supervision_cases import (
    Server,
    errors_in,
    kill_workers,
    status_of,
    tree_of,
    with_servers,
)

from rambla_py import (
    ChildSpec,
    Command,
    Handler,
    NotRunningError,
    PermanentError,
    Rambla,
)
from rambla_py.testing.ports import free_port


class External(pykka.ThreadingActor):
    """An external server that is a pykka actor."""

    use_daemon_thread = True
    started = Seen()

    def on_start(self) -> None:
        self.started.append(self.actor_ref)


_SERVER = """
import os, socket, subprocess, sys
port, folder = int(sys.argv[1]), sys.argv[2]
helper = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait(60)"])
with open(os.path.join(folder, f"{os.getpid()}.pid"), "w") as file:
    file.write(str(helper.pid))
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", port))
listener.listen()
while True:
    listener.accept()[0].close()
"""


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that ended and was not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_servers_start_before_the_pool_and_stop_after_it() -> None:
    """In order, and in reverse order; with the first message on a lazy channel."""
    log = Seen()
    a, b = Server("a", log), Server("b", log)
    with running(table(with_servers([a.spec(), b.spec()], log))) as app:
        assert not log
        assert one(app).status == "ok"
        assert log == ["start a", "start b", "connect"]
    assert log == ["start a", "start b", "connect", "close", "stop b", "stop a"]


def test_a_server_that_dies_is_restarted_with_all_that_comes_after_it() -> None:
    """Rest for one: servers before it stay, the pool is new, and other channels are not affected."""
    log, other = Seen(), Seen()
    a, b, c = (Server(name, log) for name in "abc")
    config = {
        "probe": service(with_servers([a.spec(), b.spec(), c.spec()], log), orders={}),
        "other": service(with_servers([], other), others={}),
    }
    with running(config) as app:
        assert one(app).status == "ok"
        assert one(app, channel="others").status == "ok"
        b.living = False
        assert until(lambda: log.count("connect") == 2)
        assert log[4:] == ["close", "stop c", "stop b", "start b", "start c", "connect"]
        assert one(app).status == "ok"
        assert one(app, channel="others").status == "ok"
    assert other == ["connect", "close"]
    assert log.count("start a") == log.count("stop a") == 1


def test_a_restart_of_the_pool_loses_nothing_in_flight() -> None:
    """Deliveries that were with the old pool's workers have exactly one outcome, over the new one."""
    log, taken = Seen(), Seen()
    server = Server("a", log)

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            taken.append(delivery)

    handler = probe(
        handle_deliveries=handle_deliveries, external_servers=lambda self, channel: [server.spec()]
    )
    with running(table(handler), stop_s=1.0) as app:
        receipts = [app.publish("orders", n) for n in range(3)]
        first = list(taken.wait(3))
        server.living = False
        again = taken.wait(6, timeout_s=4.0)[3:]
        for delivery in first:
            delivery.failed(PermanentError("from the old pool"))
        for delivery in again:
            delivery.ok()
        assert {receipt.outcomes(timeout_s=3.0)[0].status for receipt in receipts} == {"ok"}


def test_a_worker_that_is_stuck_when_its_pool_is_restarted_loses_nothing(gate: threading.Event) -> None:
    """Its delivery is tried by the new pool although the old thread never comes back."""
    log, calls = Seen(), Seen()
    server = Server("a", log)

    def handle(message: Any) -> str:
        calls.append(1)
        if len(calls) == 1:
            gate.wait(60)
        return "done"

    with running(table(with_servers([server.spec()], log, handle)), gate, stop_s=1.0) as app:
        receipt = app.publish("orders", 1)
        calls.wait(1)
        server.living = False
        assert receipt.outcomes(timeout_s=6.0)[0].result == "done"


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit("no")])
def test_a_server_whose_stop_raises_does_not_keep_the_others_from_stopping(error: BaseException) -> None:
    """At a restart and at the app's stop: the rest is stopped and started as if it had returned."""
    log = Seen()
    a, b = Server("a", log), Server("b", log, stop_error=error)
    with running(table(with_servers([a.spec(), b.spec()], log)), stop_s=2.0) as app:
        assert one(app).status == "ok"
        b.living = False
        assert until(lambda: log.count("start b") == 2)
        assert app.publish("orders", 1).outcomes(timeout_s=4.0)[0].status == "ok"
    assert until(lambda: log.count("stop a") == log.count("start a"), timeout_s=3.0), log
    assert log.count("stop a") == 1


def test_a_server_that_does_not_start_is_tried_again_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever its start raises: an error names it, messages wait, and a later start serves them."""
    log, tries = Seen(), Seen()

    def start() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise SystemExit("no port today")
        return 1

    with running(table(with_servers([ChildSpec("broker", start)], log), slow_restart_s=0.2)) as app:
        outcome = one(app)
        assert (outcome.status, outcome.attempts) == ("ok", 1)
    assert any("broker" in text and "no port today" in text for text in errors_in(caplog))


def test_an_actor_as_external_server_is_watched_and_stopped() -> None:
    """It is restarted when it dies, of pykka's ``stop_all`` too, and stopped with the app."""
    External.started.clear()
    log = Seen()
    with running(table(with_servers([ChildSpec("actor", External)], log))) as app:
        assert one(app).status == "ok"
        first = External.started.wait(1)[0]
        assert first.is_alive()
        pykka.ActorRegistry.stop_all()
        second = External.started.wait(2)[1]
        assert until(lambda: log.count("connect") == 2)
        assert one(app).status == "ok"
        assert second.is_alive()
    assert not second.is_alive()


def test_a_command_as_external_server_is_ready_restarted_and_ended_with_its_group(tmp_path: Path) -> None:
    """It is waited for, restarted when it is killed, and nothing of its process group is left at the end."""
    port, log = free_port(), Seen()
    command = Command(
        [sys.executable, "-c", _SERVER, str(port), str(tmp_path)],
        ready=f"tcp://127.0.0.1:{port}",
        ready_timeout_s=10,
    )

    def leaders() -> list[int]:
        return [int(path.stem) for path in tmp_path.glob("*.pid") if path.read_text()]

    with running(table(with_servers([command], log))) as app:
        assert one(app).status == "ok"
        first = leaders()[0]
        os.kill(first, 9)
        assert until(lambda: len(leaders()) == 2 and log.count("connect") == 2)
        assert one(app).status == "ok"
    everyone = [*leaders(), *(int(path.read_text()) for path in tmp_path.glob("*.pid"))]
    assert len(everyone) == 4
    assert until(lambda: not any(is_running(pid) for pid in everyone)), everyone


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            Command(
                [sys.executable, "-c", "import threading; threading.Event().wait(60)"],
                ready="tcp://127.0.0.1:{port}",
                ready_timeout_s=0.2,
            ),
            ["not ready within 0.2 s", "{port}"],
        ),
        (
            Command([sys.executable, "-c", "raise SystemExit(3)"], ready="tcp://127.0.0.1:{port}"),
            ["ended with code 3"],
        ),
        (Command(["no-such-program-anywhere"]), ["no-such-program-anywhere", "install it"]),
    ],
    ids=["silent", "ends", "missing"],
)
def test_a_command_that_does_not_become_ready_says_why(
    command: Command, words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A clear error; the messages are bounded by expires_s, and other channels work."""
    port, log = free_port(), Seen()
    ready = None if command.ready is None else command.ready.format(port=port)
    made = Command(command.argv, ready=ready, ready_timeout_s=command.ready_timeout_s)
    config = {
        "probe": service(with_servers([made], log), orders={"options": {"expires_s": 0.8}}),
        "other": service(probe(lambda message: None), others={}),
    }
    with running(config, stop_s=1.0) as app:
        receipt = app.publish("orders", 1)
        assert one(app, channel="others").status == "ok"
        assert receipt.outcomes(timeout_s=4.0)[0].status == "expired"
        assert until(lambda: errors_in(caplog))
        assert status_of(app).state != "up"
    text = "\n".join(errors_in(caplog))
    for word in words:
        assert word.format(port=port) in text


def test_stop_does_not_wait_for_a_server_to_become_ready() -> None:
    """The app stops within its time although a command is still being waited for."""
    log = Seen()
    command = Command(
        [sys.executable, "-c", "import threading; threading.Event().wait(60)"],
        ready=f"tcp://127.0.0.1:{free_port()}",
    )
    with running(table(with_servers([command], log)), stop_s=0.2) as app:
        receipt = app.publish("orders", 1)
        assert until(lambda: tree_of(app)._channels["probe.orders"]._supervisor is not None)
        began = time.monotonic()
        app.stop(timeout_s=0.2)
        assert time.monotonic() - began < 3.5
        assert receipt.outcomes(timeout_s=1.0)[0].status == "dropped"


def test_a_pool_that_went_down_stays_down_beside_its_server() -> None:
    """The look after the external servers does not wipe away what the pool says of itself."""
    log = Seen()
    server = Server("a", log)
    with running(table(with_servers([server.spec()], log), max_restarts=1), stop_s=1.0) as app:
        assert one(app).status == "ok"
        kill_workers(app, 2)
        assert until(lambda: status_of(app).state == "down")
        assert not until(lambda: status_of(app).state != "down", timeout_s=0.6)


def test_a_server_that_keeps_dying_takes_its_channel_down(caplog: pytest.LogCaptureFixture) -> None:
    """After max_restarts the channel is ``down``; the rest of the tree does not notice."""
    log = Seen()
    dying = ChildSpec("broker", start=lambda: log.append("start"), alive=lambda handle: False)
    config = {
        "probe": service(
            with_servers([dying], log), orders={"max_restarts": 1, "options": {"expires_s": 2.0}}
        ),
        "other": service(probe(lambda message: None), others={}),
    }
    with running(config, stop_s=1.0) as app:
        app.publish("orders", 1)
        assert until(lambda: status_of(app).state == "down")
        assert one(app, channel="others").status == "ok"
        assert status_of(app).state == "down"
    assert 1 <= log.count("start") <= 3


def test_an_app_that_was_stopped_does_not_restart_anything() -> None:
    """After stop nothing of the tree comes back, servers included."""
    log = Seen()
    server = Server("a", log)
    app = Rambla(table(with_servers([server.spec()], log))).start()
    assert one(app).status == "ok"
    app.stop()
    number = len(log)
    with pytest.raises(NotRunningError):
        app.publish("orders", 1)
    assert not until(lambda: len(log) > number, timeout_s=0.4)
