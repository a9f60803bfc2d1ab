"""Deaths of workers, pools and supervisors, and the hazards of pykka."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import Any

import pykka
import pytest
from small_apps import TIMEOUT_S, Seen, flaky, one, probe, running, service, table, until
from supervision_cases import (
    Server,
    connecting,
    errors_in,
    kill_worker,
    kill_workers,
    sabotage,
    status_of,
    target_of,
    tree_of,
    with_servers,
)

from rambla_py import (
    ChildSpec,
    Handler,
)
from rambla_py.runtime.supervision.actor import Inbox


class Bomb(pykka.ThreadingActor):
    """A third-party actor whose death makes pykka stop all registered actors."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> None:
        raise SystemExit("third-party")


def test_a_worker_that_dies_is_replaced() -> None:
    """The message that comes next is delivered, over a fresh connection, by another thread."""
    connects, threads = Seen(), Seen()
    handler = probe(lambda message: threads.append(threading.current_thread()), connect=connecting(connects))
    with running(table(handler)) as app:
        assert one(app).status == "ok"
        kill_worker(app)
        assert one(app).status == "ok"
        assert threads[0] is not threads[1]
        assert len(connects) == 2
        assert until(lambda: status_of(app).workers == ["up"])


def test_a_worker_that_dies_in_its_first_turn_is_replaced() -> None:
    """A death before the first message was taken is noticed like a later one."""
    links = Seen()

    def set_link(self: Handler, link: Any) -> None:
        links.append(link)
        if len(links) == 2:  # the first is the constructor's own
            raise RuntimeError("from our own line")

    handler = probe(lambda message: "done", link=property(lambda self: links[-1], set_link))
    with running(table(handler), stop_s=1.0) as app:
        assert app.publish("orders", 1).outcomes(timeout_s=3.0)[0].result == "done"


def test_a_death_spends_an_attempt_of_the_running_delivery() -> None:
    """The delivery whose worker died is tried again, and the death counts as one attempt; what waits is untouched."""
    attempts = Seen()

    def handle(message: Any) -> None:
        attempts.append((message.payload, message.attempts))
        if len(attempts) == 1:
            app.publish("orders", "waits")
            target_of(app).wakeup.workers._workers[0]._dispatcher._end = None

    with running(table(probe(handle)), stop_s=1.0) as app:
        receipt = app.publish("orders", "running")
        outcome = receipt.outcomes(timeout_s=4.0)[0]
        assert app.flush(TIMEOUT_S)
    assert (outcome.status, outcome.attempts) == ("ok", 2)
    assert ("waits", 1) in attempts
    assert ("waits", 2) not in attempts


def test_a_death_is_a_loss_for_what_waits_for_an_answer() -> None:
    """What the worker had handed over before is in flight, not running: it is sent again, with no retry spent."""
    attempts = Seen()

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            attempts.append(delivery.attempts)
            if len(attempts) == 1:
                handed_over.set()
                return
            delivery.ok()

    handed_over = threading.Event()
    with running(table(probe(handle_deliveries=handle_deliveries)), stop_s=1.0) as app:
        receipt = app.publish("orders", "in flight")
        assert handed_over.wait(TIMEOUT_S)
        kill_worker(app)
        outcome = receipt.outcomes(timeout_s=4.0)[0]
    assert (outcome.status, outcome.attempts) == ("ok", 2)


def test_more_deaths_than_allowed_take_the_channel_down_and_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After max_restarts the channel is ``down``, says so once in the log; messages are bounded by expires_s."""
    config = {
        "probe": service(
            probe(lambda message: None), orders={"max_restarts": 2, "options": {"expires_s": 0.3}}, other={}
        ),
        "else": service(probe(lambda message: None), elsewhere={}),
    }
    with running(config, stop_s=1.0) as app:
        assert one(app).status == "ok"
        kill_workers(app, 3)
        assert until(lambda: status_of(app).state == "down")
        assert app.publish("orders", 1).outcomes(timeout_s=3.0)[0].status == "expired"
        assert one(app, channel="other").status == "ok"
        assert one(app, channel="elsewhere").status == "ok"
        assert status_of(app).state == "down"
    assert len([text for text in errors_in(caplog) if "is down" in text]) == 1


def test_a_channel_that_is_down_is_tried_again_slowly() -> None:
    """Every ``slow_restart_s``; what waited until then is delivered, and the channel is up."""
    config = table(probe(lambda message: None), max_restarts=0, slow_restart_s=1.0)
    with running(config, stop_s=1.0) as app:
        assert one(app).status == "ok"
        assert until(lambda: status_of(app).workers == ["up"])
        kill_worker(app)
        assert until(lambda: status_of(app).state == "down")
        outcome = app.publish("orders", 1).outcomes(timeout_s=TIMEOUT_S)[0]
        assert (outcome.status, outcome.attempts) == ("ok", 1)
        assert status_of(app).state == "up"


def test_a_supervisor_of_servers_that_dies_is_replaced() -> None:
    """The next one starts the servers and the pool again; messages published afterwards are delivered."""
    log = Seen()
    server = Server("a", log)
    with running(table(with_servers([server.spec()], log))) as app:
        assert one(app).status == "ok"
        channel = tree_of(app)._channels["probe.orders"]
        before = channel._supervisor
        sabotage(before, _retry_at="never")
        assert until(lambda: channel._supervisor is not before)
        assert app.publish("orders", 1).outcomes(timeout_s=4.0)[0].status == "ok"


def test_an_alarm_rings_however_soon_it_is_due() -> None:
    """A wait for less than the way there ends, in each of many thousands; no message is needed to end it."""
    rung = Seen()

    def wait_for_alarms() -> None:
        for _ in range(20_000):
            inbox = Inbox()
            inbox.due = time.monotonic() + 5e-7
            inbox.get()
        rung.append("all")

    threading.Thread(target=wait_for_alarms, daemon=True).start()
    assert rung.wait() == ["all"]


def test_time_goes_on_after_the_timer_died() -> None:
    """Retries fall due and messages expire, those of before too."""
    with running(table(probe(flaky(1)), {"backoff": {"initial_s": 0.3, "max_s": 0.3}})) as app:
        delayed = app.publish("orders", 1, delay_s=0.3)
        sabotage(tree_of(app)._timer, _watch=None)
        assert delayed.outcomes(timeout_s=4.0)[0].status == "ok"
        assert one(app).status == "ok"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_third_party_actor_that_raises_a_base_exception_does_not_stop_ours() -> None:
    """pykka then stops every registered actor; ours continue."""
    with running(table(probe(lambda message: None))) as app:
        assert one(app).status == "ok"
        bomb = Bomb.start()
        bomb.tell("explode")
        assert until(lambda: not bomb.is_alive())
        assert one(app).status == "ok"


def test_stop_all_of_pykka_does_not_stop_ours() -> None:
    """Our actors are not in the registry, so ``ActorRegistry.stop_all()`` does not find them."""
    with running(table(probe(lambda message: None))) as app:
        assert one(app).status == "ok"
        assert pykka.ActorRegistry.get_all() == []
        pykka.ActorRegistry.stop_all()
        assert one(app).status == "ok"


def test_our_handlers_do_not_stop_third_party_actors() -> None:
    """SystemExit in a handler, in callbacks and in external servers leaves the actors of others alone."""

    class Bystander(pykka.ThreadingActor):
        use_daemon_thread = True

    def leave(*_: Any) -> None:
        raise SystemExit("ours")

    servers = [ChildSpec("server", start=lambda: 1, stop=leave, alive=lambda handle: True)]
    callbacks = dict.fromkeys(("on_success", "on_failure", "on_fatal", "on_outcome"), leave)
    handler = probe(leave, external_servers=lambda self, channel: servers)
    bystander = Bystander.start()
    try:
        with running(table(handler, {"retries": 1, "callbacks": callbacks})) as app:
            assert one(app).status == "fatal"
        assert bystander.is_alive()
    finally:
        pykka.ActorRegistry.unregister(bystander)
        with suppress(pykka.ActorDeadError):
            bystander.stop()


def test_threads_of_ours_are_daemons() -> None:
    """A stuck handler cannot hang the interpreter's exit."""
    with running(table(probe(lambda message: None), count=2)) as app:
        assert one(app).status == "ok"
        ours = [thread for thread in threading.enumerate() if thread.name.startswith("rambla")]
        assert len(ours) >= 3
        assert all(thread.daemon for thread in ours)


def test_stop_leaves_no_thread_behind() -> None:
    """After stop all of an app's threads end, loops of async handlers included."""

    async def handle_publish(self: Handler, message: Any, options: Any, state: Any) -> None:
        await asyncio.sleep(0)

    before = set(threading.enumerate())
    with running(table(probe(handle_publish=handle_publish), count=2)) as app:
        assert one(app).status == "ok"
    assert until(lambda: not {t for t in set(threading.enumerate()) - before if t.name.startswith("rambla")})
