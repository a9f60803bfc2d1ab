"""Health of an app, and the probes of a platform."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import pytest
from asgi_calls import Answer, acall, call
from small_apps import TIMEOUT_S, one, probe, running, table, until

from rambla_py import OptionError, Rambla, UnknownChannelError
from rambla_py.runtime.health import Progress, stalled
from rambla_py.web import health_app


def refuse(self: Any) -> None:
    raise ConnectionRefusedError("nobody listens")


def text_of(answer: Answer) -> Any:
    return json.loads(answer.body)


def test_ready_while_it_runs() -> None:
    """Before the start and from the stop on, an app is live and not ready."""
    app = Rambla(table(probe(lambda message: None)))
    before = app.health()
    with app:
        during = app.health()
    after = app.health()
    assert (before.live, before.ready, before.reasons) == (True, False, ["the app is not started"])
    assert (during.live, during.ready, during.reasons) == (True, True, [])
    assert (after.live, after.ready, after.reasons) == (True, False, ["the app is stopped"])


def test_an_unreachable_backend_leaves_it_live_and_ready() -> None:
    """Messages wait, so the process takes traffic; only ``need="connected"`` asks for more."""
    with running(table(probe(lambda message: None, connect=refuse)), stop_s=0) as app:
        assert app.health("orders", need="connected").ready  # idle: nothing was published yet
        app.publish("orders", "x")
        assert until(lambda: app.status()["probe.orders"].last_error is not None)
        health = app.health("orders")
        assert health.live
        assert health.ready
        connected = app.health(["probe.orders"], need="connected")
        assert connected.live
        assert connected.reasons == ["probe.orders: not connected (connecting)"]


def test_a_connected_worker_is_enough() -> None:
    """``need="connected"`` is met by one worker that is up."""
    with running(table(probe(lambda message: None), count=3)) as app:
        one(app)
        assert app.health("orders", need="connected").ready


def test_a_full_mailbox_is_not_ready_for_its_channel() -> None:
    """A full mailbox counts only where its channel is named."""
    gate = threading.Event()
    handler = probe(lambda message: gate.wait(TIMEOUT_S) and None)
    config = table(handler, max_pending=1, batch_size=1, overflow="raise")
    with running(config, gate) as app:
        app.publish("orders", "taken")
        assert until(lambda: app.status()["probe.orders"].in_flight == 1)
        app.publish("orders", "waits")
        assert app.health("orders").reasons == ["probe.orders: mailbox full (1)"]
        assert app.health().ready
        assert app.health().live


def test_a_disabled_channel_is_not_ready() -> None:
    """Its messages are dropped."""
    with running(table(probe(lambda message: None), enabled=False)) as app:
        assert app.health("orders").reasons == ["probe.orders: disabled"]


def test_wrong_arguments_are_refused() -> None:
    """Unknown channels and needs raise, also before the start."""
    app = Rambla(table(probe(lambda message: None)))
    with pytest.raises(UnknownChannelError, match="order"):
        app.health(["orders", "ordres"])
    with pytest.raises(OptionError, match="connected"):
        app.health(need="all")  # type: ignore[arg-type]


def test_without_its_supervisor_it_is_not_live() -> None:
    """The thread that replaces stuck and dead workers is part of the app."""
    with running(table(probe(lambda message: None))) as app:
        one(app)
        system = app._lifecycle.running()
        system._tree.stop_timer(TIMEOUT_S)
        health = app.health()
        assert not health.live
        assert health.reasons == ["the supervisor's thread has ended"]
        system._tree.start()  # for the stop, which runs on it
        assert app.health().live


def test_workers_record_their_turns() -> None:
    """A worker that delivers has turned; one in user code turns now."""
    gate = threading.Event()
    with running(table(probe(lambda message: gate.wait(TIMEOUT_S) and None)), gate) as app:
        before = time.monotonic()
        receipt = app.publish("orders", "x")
        assert until(lambda: app.status()["probe.orders"].in_flight == 1)
        workers = app._lifecycle.targets()[0].wakeup.workers
        assert until(lambda: workers.turned_at(before + 1e9) == before + 1e9)
        gate.set()
        receipt.result(timeout_s=TIMEOUT_S)
        assert until(lambda: before <= (workers.turned_at(before + 1e9) or 0.0) < before + 1e9)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([Progress("a.a", 0.0, 0.0, 10.0)], ["a.a"]),
        ([Progress("a.a", 0.0, 95.0, 10.0)], []),  # what waits has just come
        ([Progress("a.a", 95.0, 0.0, 10.0)], []),  # a worker turned
        ([Progress("a.a", 0.0, None, 10.0)], []),  # nothing waits
        ([Progress("a.a", None, 0.0, 10.0)], []),  # no worker has begun: the backend's or a server's fault
        ([Progress("a.a", 0.0, 0.0, 10.0), Progress("b.b", 99.0, None, 10.0)], []),  # others turn
        ([Progress("a.a", 0.0, 0.0, 10.0), Progress("b.b", 80.0, None, 1.0)], ["a.a"]),
    ],
)
def test_what_counts_as_stalled(targets: list[Progress], expected: list[str]) -> None:
    """Something waits, and for so long no worker of any target turned."""
    assert stalled(targets, now=100.0) == expected


def test_the_probes_answer() -> None:
    """200 while it runs; 503 with the reasons otherwise."""
    app = Rambla(table(probe(lambda message: None)))
    probes = health_app(app, required=["orders"])
    assert call(probes, "/livez").status == 200
    before = call(probes, "/readyz")
    assert before.status == 503
    assert text_of(before) == {"ready": False, "reasons": ["the app is not started"]}
    with app:
        during = call(probes, "/readyz", query_string=b"channel=orders&channel=probe.orders")
        assert during.status == 200
        assert text_of(during) == {"ready": True, "reasons": []}
    assert text_of(call(probes, "/livez")) == {"live": True, "reasons": []}


def test_the_probes_are_not_cached() -> None:
    """Neither by proxies nor by browsers."""
    probes = health_app(Rambla(table(probe(lambda message: None))))
    headers = dict(call(probes, "/livez").messages[0]["headers"])
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-content-type-options"] == b"nosniff"


def test_the_probes_refuse() -> None:
    """400 for an unknown channel, 404 for another path, 405 for another method."""
    app = Rambla(table(probe(lambda message: None)))
    probes = health_app(app)
    unknown = call(probes, "/readyz", query_string=b"channel=ordres")
    assert unknown.status == 400
    assert "ordres" in text_of(unknown)["error"]
    assert call(probes, "/").status == 404
    assert call(probes, "/livez", "POST").status == 405
    head = call(probes, "/livez", "HEAD")
    assert (head.status, head.body) == (200, b"")
    with pytest.raises(UnknownChannelError):
        health_app(app, required=["ordres"])


def test_the_probes_know_their_mount_point() -> None:
    """The path of a mounted application includes the mount point, or does not."""
    probes = health_app(Rambla(table(probe(lambda message: None))))
    assert call(probes, "/health/livez", root_path="/health").status == 200
    assert call(probes, "/livez", root_path="/health").status == 200


def test_the_probes_have_a_lifespan() -> None:
    """A server starts and stops them; the app is left alone."""
    app = Rambla(table(probe(lambda message: None)))
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    answer = asyncio.run(acall(health_app(app), "", incoming=events, type="lifespan"))
    assert [message["type"] for message in answer.messages] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert app.health().reasons == ["the app is not started"]
