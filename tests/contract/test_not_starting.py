"""Pools that cannot start: each way shows in the same places, and ends by itself."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pykka
import pytest
from small_apps import TIMEOUT_S, Seen, one, probe, running, service, table, until
from supervision_cases import errors_in, status_of

from rambla_py import AccessError, ChildSpec, Command, Handler, Observer, StartError

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Broken:
    """What a pool needs, broken until it is mended; ``tries`` counts how often it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tries = folder, Seen()

    @property
    def mended(self) -> bool:
        return (self.folder / "mended").exists()

    def mend(self) -> None:
        (self.folder / "mended").touch()

    def need(self, error: BaseException) -> str:
        self.tries.append("asked")
        if not self.mended:
            raise error
        return "there"

    def shell(self, program: str, **fields: Any) -> Command:
        return Command(["sh", "-c", f"echo >> tries; {program}"], cwd=str(self.folder), **fields)


def init_raises(broken: Broken) -> type[Handler]:
    def __init__(self: Handler, *args: Any, **fields: Any) -> None:  # noqa: N807
        broken.need(SystemExit("no licence"))
        Handler.__init__(self, *args, **fields)

    return probe(lambda message: None, __init__=__init__)


def init_raises_beside_servers(broken: Broken) -> type[Handler]:
    servers = [ChildSpec("broker", start=lambda: 1)]
    return type("Probe", (init_raises(broken),), {"external_servers": lambda self, channel: servers})


def connect_is_refused(broken: Broken) -> type[Handler]:
    return probe(lambda message: None, connect=lambda self: broken.need(AccessError("no licence")))


def connect_raises(broken: Broken) -> type[Handler]:
    return probe(lambda message: None, connect=lambda self: broken.need(OSError("no licence")))


def needing(*servers: Any) -> type[Handler]:
    return probe(lambda message: None, external_servers=lambda self, channel: servers)


def start_raises(broken: Broken) -> type[Handler]:
    return needing(ChildSpec("broker", start=lambda: broken.need(SystemExit("no licence"))))


def actor_raises(broken: Broken) -> type[Handler]:
    class Broker(pykka.ThreadingActor):
        use_daemon_thread = True

        def __init__(self) -> None:
            super().__init__()
            broken.need(ValueError("no licence"))

    return needing(Broker)


def program_is_missing(broken: Broken) -> type[Handler]:
    return needing(Command(["./mended", "60"], cwd=str(broken.folder)))


def folder_is_missing(broken: Broken) -> type[Handler]:
    return needing(Command([sys.executable, "-c", WAIT], cwd=str(broken.folder / "mended")))


def ends_before_it_is_ready(broken: Broken) -> type[Handler]:
    ready = f"file://{broken.folder / 'ready'}"
    return needing(broken.shell("test -e mended || exit 3; touch ready; exec tail -f /dev/null", ready=ready))


def is_never_ready(broken: Broken) -> type[Handler]:
    ready = f"file://{broken.folder / 'mended'}"
    return needing(broken.shell("exec tail -f /dev/null", ready=ready, ready_timeout_s=0.2))


WAIT = "import threading; threading.Event().wait(60)"


class Way(NamedTuple):
    """A way not to start, what its error says, and how it is mended if not by a file."""

    handler: Callable[[Broken], type[Handler]]
    words: tuple[str, ...]
    mend: Callable[[Broken], object] = Broken.mend


def _install(broken: Broken) -> None:
    (broken.folder / "new").write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    (broken.folder / "new").chmod(0o755)
    (broken.folder / "new").rename(broken.folder / "mended")


WAYS = [
    Way(init_raises, ("Probe.__init__", "SystemExit: no licence", "correct it")),
    Way(init_raises_beside_servers, ("Probe.__init__", "SystemExit: no licence", "correct it")),
    Way(connect_is_refused, ("AccessError: no licence",)),
    Way(start_raises, ("'broker' did not start", "SystemExit: no licence", "correct what starts it")),
    Way(actor_raises, ("'Broker' did not start", "ValueError: no licence", "correct what starts it")),
    Way(program_is_missing, ("cannot run './mended'", "install it"), _install),
    Way(folder_is_missing, ("cwd", "create it"), lambda broken: (broken.folder / "mended").mkdir()),
    Way(ends_before_it_is_ready, ("'sh' ended with code 3", "by hand")),
    Way(is_never_ready, ("'sh' was not ready within 0.2 s", "ready_timeout_s")),
]


class Connections(Observer):
    """What was reported about connections."""

    def __init__(self) -> None:
        self.states = Seen()

    def connection(self, target: Any, worker: int, state: Any, error: Any) -> None:
        self.states.append((state, type(error)))


def refusals_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines of level ERROR that are not about one message."""
    return [text for text in errors_in(caplog) if "expired after" not in text]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.handler.__name__)
def test_what_cannot_start_is_down_with_its_reason_and_recovers_by_itself(
    way: Way, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """State, one ERROR, last_error, expired outcomes, ping and observers give the reason; others work."""
    caplog.set_level(logging.INFO)
    broken, connections = Broken(tmp_path), Connections()
    config = {
        "probe": service(way.handler(broken), orders={"slow_restart_s": 0.3, "max_restarts": 1, "count": 2}),
        "other": service(probe(lambda message: None), others={}),
    }
    with running(config, stop_s=2.0) as app:
        app.observe(connections)
        expiring = app.publish("orders", 1, expires_s=2.0)
        assert one(app, channel="others").status == "ok"
        assert until(lambda: status_of(app).state == "down")
        assert until(lambda: sum(status_of(app).reasons.values()) >= 3, 4.0)  # it goes on trying
        (error,) = refusals_in(caplog)
        expired = expiring.outcomes(timeout_s=TIMEOUT_S)[0]
        assert expired.status == "expired"
        assert isinstance(expired.error and expired.error.__cause__, AccessError)
        (ping,) = app.ping("orders", timeout_s=4.0)
        assert not ping.ok
        waiting = app.publish("orders", 2)
        for word in way.words:
            for text in (error, status_of(app).last_error, str(expired.error), ping.error):
                assert word in text
        assert "probe.orders is down and tries again every 0.3 s" in error
        kind = AccessError if way.handler is connect_is_refused else StartError
        assert ("down", kind) in connections.states
        way.mend(broken)
        assert waiting.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"
        assert until(lambda: status_of(app).state == "up")
        assert app.ping("orders", timeout_s=4.0)[0].ok
    assert len(refusals_in(caplog)) == 1
    assert re.search(r"(again|reconnected) after \d", caplog.text)


def test_a_connect_that_fails_for_now_is_tried_at_the_pace_of_reconnects(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that is not ours is a server that is away: connecting, one WARNING, the same reasons."""
    broken = Broken(tmp_path)
    with running(table(connect_raises(broken)), stop_s=2.0) as app:
        expired = app.publish("orders", 1, expires_s=0.5).outcomes(timeout_s=TIMEOUT_S)[0]
        waiting = app.publish("orders", 2)
        assert (expired.status, status_of(app).state) == ("expired", "connecting")
        assert len(broken.tries.wait(3)) >= 3
        ping = app.ping("orders", timeout_s=4.0)[0]
        for text in (status_of(app).last_error, str(expired.error), ping.error):
            assert "no licence" in text
        broken.mend()
        assert waiting.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.levelname for record in lines if "cannot connect" in record.getMessage()] == ["WARNING"]
    assert not refusals_in(caplog)


@pytest.mark.parametrize("handler", [init_raises, start_raises, connect_is_refused])
def test_what_is_down_is_tried_every_slow_restart_s(
    handler: Callable[[Broken], type[Handler]], tmp_path: Path
) -> None:
    """Not at the pace of reconnects: a person has to act first. A stop tries once more."""
    broken = Broken(tmp_path)
    with running(table(handler(broken), slow_restart_s=60), stop_s=6.0) as app:
        receipt = app.publish("orders", 1)
        assert until(lambda: status_of(app).state == "down")
        assert not until(lambda: len(broken.tries) > 1, timeout_s=0.7)
        broken.mend()
    assert receipt.outcomes(timeout_s=1.0)[0].status == "ok"


def test_a_server_that_does_not_stay_up_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After more deaths than allowed it counts as one that does not start."""
    broken = Broken(tmp_path)
    command = broken.shell("test -e mended || exit 3; exec tail -f /dev/null")
    with running(table(needing(command), max_restarts=1, slow_restart_s=60), stop_s=1.0) as app:
        app.publish("orders", 1)
        assert until(lambda: status_of(app).state == "down")
        late = app.publish("orders", 2, expires_s=0.1).outcomes(timeout_s=TIMEOUT_S)[0]
        ping = app.ping("orders", timeout_s=4.0)[0]
        (error,) = refusals_in(caplog)
        for text in (error, status_of(app).last_error, str(late.error), ping.error):
            assert "'sh' ended 2 times within 60 s; run it by hand to see why" in text


def test_callbacks_run_while_a_handler_cannot_be_made(tmp_path: Path) -> None:
    """Those of the receipt and of the options; the handler's own need an instance."""
    broken, ended = Broken(tmp_path), Seen()
    options = {"callbacks": {"on_outcome": lambda outcome: ended.append(outcome.status)}}
    with running(table(init_raises(broken), options), stop_s=1.0) as app:
        receipt = app.publish("orders", 1, expires_s=0.2)
        receipt.add_done_callback(lambda done: ended.append("receipt"))
        assert sorted(ended.wait(2)) == ["expired", "receipt"]
        app.publish("orders", 2)
    assert sorted(ended.wait(3)) == ["dropped", "expired", "receipt"]


def test_a_handler_finds_its_external_servers_by_id(tmp_path: Path) -> None:
    """The handle of a ChildSpec, the reference of an actor, the process of a command; pings too."""

    class Broker(pykka.ThreadingActor):
        use_daemon_thread = True

    found = Seen()
    servers = [
        Broker,
        ChildSpec("spec", start=lambda: "handle"),
        Command([sys.executable, "-c", WAIT]),
        Command([sys.executable, "-c", WAIT], id="second"),
    ]
    handler = probe(
        lambda message: None,
        external_servers=lambda self, channel: servers,
        connect=lambda self: found.append(dict(self.servers)),
    )
    with running(table(handler)) as app:
        assert app.plan.services[0].channels[0].server_names == ["Broker", "spec", sys.executable, "second"]
        assert one(app).status == "ok"
        assert app.ping("orders", timeout_s=4.0)[0].ok
        connected, pinged = found.wait(2)
        assert connected == pinged
        assert connected["Broker"].is_alive()
        assert connected["spec"] == "handle"
        assert connected[sys.executable].poll() is None
        assert connected["second"].pid != connected[sys.executable].pid
    assert not connected["Broker"].is_alive()


def test_restarts_count_workers_and_external_servers_that_died() -> None:
    """What is restarted along with one that died is not counted."""
    alive = Seen()
    server = ChildSpec("broker", start=lambda: alive.append(1) or len(alive), alive=lambda handle: handle > 1)
    with running(table(needing(server))) as app:
        assert one(app).status == "ok"
        assert until(lambda: len(alive) == 2 and status_of(app).state == "up")
        assert status_of(app).restarts == 1
