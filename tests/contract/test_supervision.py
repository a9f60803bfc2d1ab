"""DESIGN 5: what starts, what dies, what is started again, and what nobody notices."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pykka
import pytest
from small_apps import TIMEOUT_S, Seen, flaky, one, probe, running, service, table, until

from rambla_py import (
    AccessError,
    ChildSpec,
    Command,
    ConnectionLostError,
    ExpiredError,
    Failed,
    Handler,
    NotRunningError,
    Ok,
    PermanentError,
    Rambla,
    UnknownOutcomeError,
)
from rambla_py.actors.actor import Inbox
from rambla_py.actors.closing import close
from rambla_py.actors.pool import Pool
from rambla_py.testing.ports import free_port


def target_of(app: Rambla, name: str = "probe.orders") -> Any:
    """Return the inner side of a target."""
    return next(target for target in app._targets() if target.config.name == name)


def status_of(app: Rambla, name: str = "probe.orders") -> Any:
    """Return what status says of a target."""
    return app.status()[name]


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return our own lines of level ERROR."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR and record.name.startswith("rambla_py")
    ]


def connecting(seen: Seen) -> Callable[[Handler], int]:
    """Return a ``connect`` that gives each connection a number, and remembers it."""

    def connect(self: Handler) -> int:
        seen.append(len(seen))
        return len(seen)

    return connect


def kill_worker(app: Rambla, name: str = "probe.orders", index: int = 0) -> None:
    """Make a worker's own code raise at its next turn."""
    sabotage(target_of(app, name).roster.crew._workers[index], abandoned=Tripwire())


class Tripwire:
    """Raises when a condition asks for it."""

    def __bool__(self) -> bool:
        raise RuntimeError("tripped")


def sabotage(actor: Any, **fields: Any) -> None:
    """Spoil an actor's state until it trips over it; again and again, for it may just be writing there itself."""

    def dead() -> bool:
        for name, value in fields.items():
            setattr(actor, name, value)
        actor.wake()
        return not actor.is_alive()

    assert until(dead)


def supervisor(app: Rambla, *path: str) -> Any:
    """Return a supervisor, or another of our actors, by the way to it: service, then channel; None if there is none."""
    found = app._life.system._tree._root  # type: ignore[union-attr]
    for name in path:
        found = None if found is None else found._running.get(name)
    return found


# -- start --------------------------------------------------------------------------------------------


def test_a_lazy_channel_starts_with_its_first_message() -> None:
    """Nothing connects before; no thread of the channel's workers runs."""
    connects = Seen()
    with running(table(probe(lambda message: None, connect=connecting(connects)), count=2)) as app:
        assert status_of(app).state == "idle"
        assert not connects
        assert one(app).status == "ok"
        assert len(connects.wait(2)) == 2
        assert until(lambda: status_of(app).workers == ["up", "up"])


def test_a_channel_that_is_not_lazy_starts_with_the_app() -> None:
    """Its workers connect before anything is published."""
    connects = Seen()
    config = table(probe(lambda message: None, connect=connecting(connects)), count=2, lazy=False)
    with running(config) as app:
        connects.wait(2)
        assert until(lambda: status_of(app).state == "up")
        assert app.audit()["probe.orders"].accepted == 0


def test_each_worker_has_a_handler_and_a_connection_of_its_own(gate: threading.Event) -> None:
    """Two workers: two instances, two connections, two threads, at the same time."""
    used = Seen()

    def handle_publish(self: Handler, message: Any, options: Any, state: Any) -> None:
        used.append((id(self), state.connection, state.worker, threading.get_ident()))
        gate.wait(TIMEOUT_S)

    handler = probe(handle_publish=handle_publish, connect=lambda self: object())
    with running(table(handler, count=2), gate) as app:
        app.publish_many("orders", [1, 2])
        first, second = used.wait(2)
    assert all(mine != other for mine, other in zip(first, second, strict=True))


# -- user code that misbehaves ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), OSError("no"), BaseException("bare")]
)
@pytest.mark.parametrize("level", ["publish", "batch", "deliveries", "async", "callable"])
def test_whatever_a_handler_raises_is_a_failed_attempt_and_a_fresh_connection(
    level: str, error: BaseException
) -> None:
    """The worker lives on, takes a new connection, and the message is tried again."""
    connects, attempts = Seen(), Seen()

    def raise_once() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise error

    def handle_publish(self: Handler, message: Any, options: Any, state: Any) -> None:
        raise_once()

    async def handle_async(self: Handler, message: Any, options: Any, state: Any) -> None:
        await asyncio.sleep(0)
        raise_once()

    def handle_batch(self: Handler, messages: Any, state: Any) -> list[None]:
        raise_once()
        return [None] * len(messages)

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        raise_once()
        for delivery in deliveries:
            delivery.ok()

    members: dict[str, dict[str, Any]] = {
        "publish": {"handle_publish": handle_publish},
        "batch": {"handle_batch": handle_batch},
        "deliveries": {"handle_deliveries": handle_deliveries},
        "async": {"handle_publish": handle_async},
        "callable": {"handle_publish": lambda *_: None},
    }
    payload: Any = "x" if level != "callable" else lambda source, destination, options: raise_once()
    with running(table(probe(connect=connecting(connects), **members[level]))) as app:
        outcome = one(app, payload)
        assert (outcome.status, outcome.attempts) == ("ok", 2)
        assert status_of(app).workers == ["up"]
        assert status_of(app).reasons[f"attempt:{type(error).__name__}"] == 1
        if level != "async":
            assert len(connects) == 2


class Evil:
    """A value that raises as soon as one looks at what it is."""

    @property  # type: ignore[misc]  # object's own may be assigned to
    def __class__(self) -> Any:
        raise RuntimeError("do not look")

    def __repr__(self) -> str:
        raise RuntimeError("do not print")

    def __bool__(self) -> bool:
        raise RuntimeError("do not ask")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("do not compare")

    __hash__ = None  # type: ignore[assignment]


class MuteError(Exception):
    """An exception that cannot be printed."""

    def __str__(self) -> str:
        raise RuntimeError("cannot be printed")

    __repr__ = __str__


@pytest.mark.parametrize("level", ["publish", "batch", "deliveries", "async"])
def test_a_result_that_raises_when_it_is_looked_at_is_a_result(level: str) -> None:
    """Whatever a handler returns has an outcome; the message after it, too."""

    def answer(message: Any) -> Any:
        return Evil() if message.payload == "evil" else "good"

    async def handle_async(self: Handler, message: Any, options: Any, state: Any) -> Any:
        return answer(message)

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            delivery.ok(answer(delivery))

    members: dict[str, dict[str, Any]] = {
        "publish": {"handle_publish": lambda self, message, options, state: answer(message)},
        "batch": {"handle_batch": lambda self, messages, state: [answer(message) for message in messages]},
        "deliveries": {"handle_deliveries": handle_deliveries},
        "async": {"handle_publish": handle_async},
    }
    with running(table(probe(**members[level]), {"retries": 1, "expires_s": 2.0}), stop_s=1.0) as app:
        evil = app.publish("orders", "evil")
        assert one(app, "good").result == "good"
        evil.outcomes(timeout_s=3.0)


@pytest.mark.parametrize("where", ["raised", "returned", "connect", "callback", "settled"])
def test_an_error_that_cannot_be_printed_harms_nobody(where: str) -> None:
    """A failed attempt, a refused connection or a callback's error with a broken __str__ is like any other."""
    connects = Seen()

    def connect(self: Handler) -> None:
        connects.append(1)
        if where == "connect" and len(connects) == 1:
            raise MuteError

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            delivery.failed(MuteError())

    def handle_publish(self: Handler, message: Any, options: Any, state: Any) -> Any:
        if where == "raised":
            raise MuteError
        return Failed(MuteError()) if where == "returned" else None

    def explode(outcome: Any) -> None:
        raise MuteError

    levels: dict[str, Any] = (
        {"handle_deliveries": handle_deliveries} if where == "settled" else {"handle_publish": handle_publish}
    )
    options = {"retries": 1, "callbacks": {"on_success": explode} if where == "callback" else {}}
    with running(table(probe(connect=connect, **levels), options)) as app:
        receipt = app.publish("orders", 1)
        outcome = receipt.outcomes(timeout_s=3.0)[0]
        assert outcome.status == ("ok" if where in ("connect", "callback") else "fatal")
        assert until(lambda: status_of(app).workers == ["up"])
        repr(app.status())
        if outcome.status == "fatal":
            with pytest.raises(Exception, match="did not succeed"):
                receipt.result()


@pytest.mark.parametrize(
    "answers",
    [[], [None], [None] * 4, None, 7, "abc", b"abc", {"a": 1}, {1, 2, 3}, iter([None] * 3), Ok([None] * 3)],
    ids=["none", "short", "long", "nothing", "number", "text", "bytes", "dict", "set", "iterator", "ok"],
)
def test_a_batch_with_another_number_of_results_fails_as_a_whole(answers: Any) -> None:
    """A wrong length, or no list at all, is a failed attempt of all that are not settled; the text says so."""

    def handle_batch(self: Handler, messages: Any, state: Any) -> Any:
        seen.append(1)
        return answers

    seen = Seen()
    with running(
        table(probe(handle_batch=handle_batch), {"retries": 0}, batch_size=3, batch_timeout_s=5.0)
    ) as app:
        outcomes = app.publish_many("orders", range(3)).outcomes(timeout_s=TIMEOUT_S)
    assert {outcome.status for outcome in outcomes} == {"fatal"}
    assert all("one result for each of 3" in str(outcome.error) for outcome in outcomes)
    assert len(seen) == 1


def test_a_batch_answers_each_message_by_itself() -> None:
    """Results, Ok, Failed and exceptions side by side: each is the answer to its own message."""
    answers = ["value", Ok(5), Failed("no", retryable=False), PermanentError("no"), None]

    def handle_batch(self: Handler, messages: Any, state: Any) -> Any:
        return [answers[message.payload] for message in messages]

    with running(table(probe(handle_batch=handle_batch))) as app:
        outcomes = app.publish_many("orders", range(5)).outcomes(timeout_s=TIMEOUT_S)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok", "fatal", "fatal", "ok"]
    assert [outcome.result for outcome in outcomes] == ["value", 5, None, None, None]


def test_a_handler_whose_constructor_raises_takes_only_its_channel_down() -> None:
    """Its messages expire, the status says that it does not run, and the other channel works."""

    def __init__(self: Handler, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        raise SystemExit("no handler today")

    config = {
        "bad": service(
            probe(lambda message: None, __init__=__init__),
            broken={"options": {"expires_s": 0.3}, "max_restarts": 2},
        ),
        "good": service(probe(lambda message: None), orders={}),
    }
    with running(config, stop_s=1.0) as app:
        receipt = app.publish("broken", 1)
        assert one(app).status == "ok"
        assert receipt.outcomes(timeout_s=3.0)[0].status == "expired"
        assert until(lambda: status_of(app, "bad.broken").state == "down")


@pytest.mark.parametrize("where", ["connect", "on_failure", "ping", "close"])
def test_async_user_code_that_raises_system_exit_harms_nobody(where: str) -> None:
    """SystemExit out of a coroutine is an error like any other; nothing waits for an answer that never comes."""
    calls = Seen()

    def member(name: str) -> Any:
        async def call(self: Handler, *_: Any) -> None:
            await asyncio.sleep(0)
            if name == where:
                calls.append(name)
                if len(calls) == 1:
                    raise SystemExit(f"from {name}")

        return call

    async def handle_publish(self: Handler, message: Any, options: Any, state: Any) -> None:
        if message.attempts == 1 and where == "on_failure":
            raise ValueError("no")

    members = {name: member(name) for name in ("connect", "on_failure", "ping", "close")}
    with running(table(probe(handle_publish=handle_publish, **members))) as app:
        assert app.publish("orders", 1).outcomes(timeout_s=4.0)[0].status == "ok"
        ping = app.ping(timeout_s=4.0)[0]
        assert ping.took_s < 4.0
        assert one(app).status == "ok"


# -- deaths outside user code -------------------------------------------------------------------------


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
            target_of(app).roster.crew._workers[0]._attempts._end = None

    with running(table(probe(handle)), stop_s=1.0) as app:
        receipt = app.publish("orders", "running")
        outcome = receipt.outcomes(timeout_s=4.0)[0]
        assert app.flush(TIMEOUT_S)
    assert (outcome.status, outcome.attempts) == ("ok", 2)
    assert ("waits", 1) in attempts
    assert ("waits", 2) not in attempts


def test_a_death_is_a_loss_for_what_waits_for_an_answer() -> None:
    """What the worker had handed over before is in flight, not running: it is sent again, with no attempt spent."""
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
    assert (outcome.status, outcome.attempts) == ("ok", 1)


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
        killed: list[Any] = []
        for _ in range(3):
            # The next one, and not the last while it is still dying.
            assert until(
                lambda: (
                    status_of(app).workers == ["up"] and target_of(app).roster.crew._workers[0] not in killed
                )
            )
            killed.append(target_of(app).roster.crew._workers[0])
            kill_worker(app)
        assert until(lambda: status_of(app).state == "down")
        assert app.publish("orders", 1).outcomes(timeout_s=3.0)[0].status == "expired"
        assert one(app, channel="other").status == "ok"
        assert one(app, channel="elsewhere").status == "ok"
        assert status_of(app).state == "down"
    assert len([text for text in errors_in(caplog) if "is down" in text]) == 1


def test_a_channel_that_is_down_is_tried_again_slowly() -> None:
    """Every ``slow_restart_s``; what waited until then is delivered, and the channel is up."""
    config = table(probe(lambda message: None), max_restarts=0, slow_restart_s=0.3)
    with running(config, stop_s=1.0) as app:
        assert one(app).status == "ok"
        assert until(lambda: status_of(app).workers == ["up"])
        kill_worker(app)
        assert until(lambda: status_of(app).state == "down")
        outcome = app.publish("orders", 1).outcomes(timeout_s=TIMEOUT_S)[0]
        assert (outcome.status, outcome.attempts) == ("ok", 1)
        assert status_of(app).state == "up"


def test_a_pool_that_dies_is_replaced_and_loses_nothing(gate: threading.Event) -> None:
    """Its workers' deliveries and what waits have their outcomes; the next pool delivers them."""
    taken = Seen()

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            taken.append(delivery)
            if gate.is_set():
                delivery.ok()

    with running(table(probe(handle_deliveries=handle_deliveries))) as app:
        receipt = app.publish_many("orders", range(5))
        taken.wait(5)
        gate.set()
        pool = target_of(app).roster.crew
        pool._replace_missing = None
        pool.wake()
        assert until(lambda: not pool.is_alive())
        assert {outcome.status for outcome in receipt.outcomes(timeout_s=TIMEOUT_S)} == {"ok"}
        for delivery in taken[:5]:
            delivery.failed("an answer to the pool that is gone")
        assert one(app).status == "ok"


@pytest.mark.parametrize(
    "path", [("service probe",), ("service probe", "orders"), ()], ids=["service", "channel", "root"]
)
def test_a_supervisor_that_dies_is_replaced(path: tuple[str, ...]) -> None:
    """Messages published afterwards are delivered; for the root, what runs goes on running."""
    with running(table(probe(lambda message: None))) as app:
        assert one(app).status == "ok"
        assert until(lambda: supervisor(app, *path) is not None)  # it may deliver before it is entered there
        sabotage(supervisor(app, *path), _retry_at="never")
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
        assert until(lambda: supervisor(app, "timer") is not None)
        sabotage(supervisor(app, "timer"), _watch=None)
        assert delayed.outcomes(timeout_s=4.0)[0].status == "ok"
        assert one(app).status == "ok"


# -- pykka's hazards ----------------------------------------------------------------------------------


class Bomb(pykka.ThreadingActor):
    """A stranger's actor that takes all of pykka's actors with it."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> None:
        raise SystemExit("a stranger's")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_strangers_actor_that_raises_a_base_exception_does_not_stop_ours() -> None:
    """pykka stops every registered actor then; ours go on."""
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


def test_our_handlers_do_not_stop_a_strangers_actors() -> None:
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
        assert len(ours) >= 5
        assert all(thread.daemon for thread in ours)


def test_stop_leaves_no_thread_behind() -> None:
    """After stop all of an app's threads end, loops of async handlers included."""

    async def handle_publish(self: Handler, message: Any, options: Any, state: Any) -> None:
        await asyncio.sleep(0)

    before = set(threading.enumerate())
    with running(table(probe(handle_publish=handle_publish), count=2)) as app:
        assert one(app).status == "ok"
    assert until(lambda: not {t for t in set(threading.enumerate()) - before if t.name.startswith("rambla")})


# -- lost connections ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ConnectionLostError("gone"), UnknownOutcomeError("gone")])
def test_a_loss_spends_no_attempt(error: BaseException) -> None:
    """The worker reconnects and tries again; two losses and then success are one attempt."""
    connects, tries = Seen(), Seen()

    def handle(message: Any) -> None:
        tries.append(message.attempts)
        if len(tries) <= 2:
            raise error

    with running(table(probe(handle, connect=connecting(connects)), {"retries": 0})) as app:
        outcome = one(app)
        assert status_of(app).reasons[f"lost:{type(error).__name__}"] == 2
    assert (outcome.status, outcome.attempts) == ("ok", 1)
    assert tries == [1, 1, 1]
    assert len(connects) == 3


def test_a_failing_connect_spends_no_attempt_and_is_tried_again() -> None:
    """Messages wait while nothing connects, whatever connect raises; it says so once, as a warning."""
    connects = Seen()

    def connect(self: Handler) -> None:
        connects.append(1)
        if len(connects) <= 2:
            raise OSError("refused") if len(connects) == 1 else SystemExit("refused")

    with running(table(probe(lambda message: None, connect=connect), {"retries": 0})) as app:
        outcome = one(app)
    assert (outcome.status, outcome.attempts) == ("ok", 1)
    assert len(connects) == 3


def test_a_poison_message_is_sent_alone_and_spends_attempts_then() -> None:
    """After two losses each of the batch goes alone: the innocent are delivered, the poison fails by itself."""
    batches = Seen()

    def handle_batch(self: Handler, messages: Any, state: Any) -> Any:
        batches.append(sorted(str(message.payload) for message in messages))
        if any(message.payload == "poison" for message in messages):
            raise UnknownOutcomeError("the server died of it")
        return [None] * len(messages)

    config = table(probe(handle_batch=handle_batch), {"retries": 1}, batch_size=4, batch_timeout_s=0.1)
    with running(config) as app:
        outcomes = app.publish_many("orders", ["poison", 1, 2, 3]).outcomes(timeout_s=20.0)
    assert [(outcome.status, outcome.attempts) for outcome in outcomes] == [("fatal", 2), *[("ok", 1)] * 3]
    assert batches[:2] == [["1", "2", "3", "poison"]] * 2
    assert sorted(batches[2:]) == [["1"], ["2"], ["3"], ["poison"], ["poison"]]
    assert isinstance(outcomes[0].error, UnknownOutcomeError)


def test_alone_means_that_nothing_else_is_in_flight() -> None:
    """One that was lost twice waits until the others are answered, and the others wait until it is."""
    flights = Seen()
    link: list[Any] = []

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        link[:] = [self.link]
        flights.append(list(deliveries))

    with running(table(probe(handle_deliveries=handle_deliveries))) as app:
        app.publish("orders", "suspect")
        for number in (1, 2):
            flights.wait(number)
            link[0].lost(ConnectionLostError("gone"))
        suspect = flights.wait(3)[2]
        assert [delivery.losses for delivery in suspect] == [2]
        later = app.publish("orders", "later")
        assert not until(lambda: len(flights) > 3, timeout_s=0.2)
        suspect[0].ok()
        assert [delivery.payload for delivery in flights.wait(4)[3]] == ["later"]
        flights[3][0].ok()
        assert later.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"


def test_waiting_to_be_alone_costs_no_processor_time() -> None:
    """While a suspect waits for the others in flight, its worker sleeps."""
    flights = Seen()

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            flights.append(delivery)
            if delivery.payload == "suspect" and delivery.losses < 2:
                delivery.failed(ConnectionLostError("gone")) if delivery.losses else delivery.unknown("gone")

    with running(table(probe(handle_deliveries=handle_deliveries), count=1), stop_s=1.0) as app:
        target = target_of(app)
        app.publish("orders", "starts it")
        flights.wait(1)
        suspect = target.delivery("suspect", None)
        suspect.losses = 2
        target._number(suspect)
        target.put_back([suspect])
        before = time.process_time()
        assert not until(lambda: len(flights) > 1, timeout_s=0.4)
        assert time.process_time() - before < 0.2
        flights[0].ok()
        assert flights.wait(2)[1].payload == "suspect"
        flights[1].ok()


def test_a_pool_that_starts_after_the_end_lets_nothing_wait() -> None:
    """A stop may overtake the start of a channel: who publishes at that moment still gets an outcome."""

    def connect(self: Handler) -> None:
        raise OSError("nobody listens")

    with running(table(probe(lambda message: None, connect=connect)), stop_s=1.0) as app:
        target = target_of(app)
        close(target)
        pool = Pool(target, lambda error: None).begin()
        assert until(lambda: target.roster.crew is pool and pool.states())
        late = target.submit("late")
        assert until(late.done, timeout_s=1.0)
        pool.halt(TIMEOUT_S)
    assert late.outcomes()[0].status == "dropped"


def test_a_link_that_is_lost_while_idle_is_taken_up_again() -> None:
    """A handler may tell of a loss at any time: the worker reconnects although nothing is published."""
    connects: Seen = Seen()
    links: list[Any] = []

    def connect(self: Handler) -> None:
        links.append(self.link)
        connects.append(1)

    with running(table(probe(lambda message: None, connect=connect))) as app:
        assert one(app).status == "ok"
        links[0].lost(ConnectionLostError("the server went away"))
        connects.wait(2)
        links[0].lost(ConnectionLostError("an earlier connection is nobody's business"))
        assert one(app).status == "ok"
        assert len(connects) == 2


def test_a_server_that_asks_for_silence_gets_it() -> None:
    """Held: nothing new is taken, the state is ``blocked``, and the clock of what is in flight stands still."""
    taken = Seen()
    links: list[Any] = []

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        links[:] = [self.link]
        for delivery in deliveries:
            taken.append(delivery)

    with running(table(probe(handle_deliveries=handle_deliveries), attempt_timeout_s=0.2)) as app:
        first = app.publish("orders", 1)
        taken.wait(1)
        links[0].hold()
        second = app.publish("orders", 2)
        assert not until(lambda: len(taken) > 1, timeout_s=0.5)
        assert status_of(app).state == "blocked"
        taken[0].ok()
        assert first.outcomes(timeout_s=TIMEOUT_S)[0].attempts == 1
        links[0].release()
        taken.wait(2)[1].ok()
        assert second.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"


def test_wrong_credentials_take_the_channel_down_with_one_error(caplog: pytest.LogCaptureFixture) -> None:
    """State ``down``, one error in the log however often it tries, messages bounded by expires_s; then it heals."""
    right = threading.Event()
    tries = Seen()

    def connect(self: Handler) -> None:
        tries.append(1)
        if not right.is_set():
            raise AccessError("ACCESS_REFUSED")

    with running(table(probe(lambda message: None, connect=connect), {"expires_s": 0.5})) as app:
        outcome = one(app)
        assert (outcome.status, outcome.attempts) == ("expired", 0)
        assert str(outcome.error).endswith(
            "was over after 0 attempts; the last error: AccessError: ACCESS_REFUSED"
        )
        assert isinstance(outcome.error, ExpiredError)
        assert isinstance(outcome.error.__cause__, AccessError)
        tries.wait(3)
        assert status_of(app).state == "down"
        assert "ACCESS_REFUSED" in (status_of(app).last_error or "")
        right.set()
        waiting = app.publish("orders", 2, expires_s=20)
        assert waiting.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"
        assert status_of(app).state == "up"
    refused = [text for text in errors_in(caplog) if "cannot connect" in text]
    assert len(refused) == 1


# -- settles ------------------------------------------------------------------------------------------


def test_a_delivery_is_settled_once() -> None:
    """The first settle counts; others, of whatever kind and from whatever thread, are ignored."""
    taken = Seen()

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            taken.append(delivery)

    with running(table(probe(handle_deliveries=handle_deliveries))) as app:
        receipts = [app.publish("orders", n) for n in range(2)]
        first, second = taken.wait(2)
        first.ok("one")
        first.failed("two")
        first.unknown()
        first.ok("three")
        threads = [threading.Thread(target=lambda: second.ok("both"), daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S)
        results = [receipt.result(timeout_s=TIMEOUT_S) for receipt in receipts]
        first.failed("after the end")
        assert one_more(app, taken).status == "ok"
        audit = app.audit()["probe.orders"]
    assert results == ["one", "both"]
    assert (audit.accepted, audit.ok) == (3, 3)


def one_more(app: Rambla, taken: Seen) -> Any:
    """Publish one more message to a handler that leaves settling to the test."""
    receipt = app.publish("orders", "one more")
    taken.wait(len(taken) + 1 if taken[-1].payload != "one more" else len(taken))[-1].ok()
    return receipt.outcomes(timeout_s=TIMEOUT_S)[0]


def test_a_settle_from_an_earlier_connection_is_ignored() -> None:
    """After a loss only the new attempt can be settled: the old object is inert."""
    taken = Seen()
    links: list[Any] = []

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        links[:] = [self.link]
        for delivery in deliveries:
            taken.append(delivery)

    with running(table(probe(handle_deliveries=handle_deliveries))) as app:
        receipt = app.publish("orders", 1)
        old = taken.wait(1)[0]
        links[0].lost(UnknownOutcomeError("gone"))
        new = taken.wait(2)[1]
        old.ok("from the connection that is gone")
        old.failed(PermanentError("likewise"))
        with pytest.raises(TimeoutError):
            receipt.result(timeout_s=0.1)
        new.ok("from the living")
        assert receipt.result(timeout_s=TIMEOUT_S) == "from the living"


def test_a_settle_within_the_call_and_an_exception_afterwards() -> None:
    """What was settled before handle_deliveries raised stays so; the rest has failed."""

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        deliveries[0].ok("settled")
        raise PermanentError("the rest")

    with running(table(probe(handle_deliveries=handle_deliveries), batch_size=3, batch_timeout_s=5.0)) as app:
        outcomes = app.publish_many("orders", range(3)).outcomes(timeout_s=TIMEOUT_S)
    assert [outcome.status for outcome in outcomes] == ["ok", "fatal", "fatal"]


# -- what hangs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["publish", "batch", "deliveries", "async", "never settled"])
def test_an_attempt_that_hangs_is_given_up(level: str, gate: threading.Event) -> None:
    """After attempt_timeout_s the connection is closed and the attempt repeated; the late answer is ignored."""
    connects, closed, calls = Seen(), Seen(), Seen()

    def first() -> bool:
        calls.append(1)
        return len(calls) == 1

    def handle_publish(self: Handler, message: Any, options: Any, state: Any) -> str:
        return gate.wait(TIMEOUT_S) and "late" if first() else "done"  # type: ignore[return-value]

    async def handle_async(self: Handler, message: Any, options: Any, state: Any) -> str:
        if first():
            await asyncio.sleep(TIMEOUT_S)
        return "done"

    def handle_batch(self: Handler, messages: Any, state: Any) -> list[str]:
        return ["late" if first() and gate.wait(TIMEOUT_S) else "done"] * len(messages)

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        hangs = first()
        if hangs and level == "deliveries":
            gate.wait(TIMEOUT_S)
        for delivery in deliveries if not hangs else ():
            delivery.ok("done")

    members: dict[str, dict[str, Any]] = {
        "publish": {"handle_publish": handle_publish},
        "async": {"handle_publish": handle_async},
        "batch": {"handle_batch": handle_batch},
        "deliveries": {"handle_deliveries": handle_deliveries},
        "never settled": {"handle_deliveries": handle_deliveries},
    }
    handler = probe(
        connect=connecting(connects),
        close=lambda self, connection: closed.append(connection),
        **members[level],
    )
    with running(table(handler, attempt_timeout_s=0.15), gate) as app:
        receipt = app.publish("orders", 1)
        outcome = receipt.outcomes(timeout_s=4.0)[0]
        assert (outcome.status, outcome.result, outcome.attempts) == ("ok", "done", 2)
        assert 1 in closed.wait(1)
        gate.set()
        assert one(app).result == "done"
        assert app.audit()["probe.orders"].ok == 2
        assert status_of(app).workers == ["up"]


@pytest.mark.parametrize(
    "options",
    [{"delay_s": 50.0}, {"expires_s": 50.0}, {"delay_s": 50.0, "key": "k"}],
    ids=["delay", "expiry", "key"],
)
def test_a_far_alarm_does_not_stop_the_clock(options: dict[str, Any], gate: threading.Event) -> None:
    """A first message that is due, or expires, in a minute: hanging attempts are given up in time all the same."""
    calls = Seen()

    def handle(message: Any) -> None:
        calls.append(message.payload)
        if len(calls) == 1:
            gate.wait(TIMEOUT_S)

    with running(table(probe(handle), attempt_timeout_s=0.15), gate, stop_s=1.0) as app:
        app.publish("orders", "far", **options)
        receipt = app.publish("orders", "near", expires_s=20.0)
        assert receipt.outcomes(timeout_s=3.0)[0].status == "ok"


def test_with_report_an_attempt_that_hangs_is_unknown(gate: threading.Event) -> None:
    """``on_unknown = "report"``: at most once, so it is not repeated."""
    calls = Seen()

    def handle(message: Any) -> None:
        calls.append(1)
        gate.wait(TIMEOUT_S)

    with running(table(probe(handle), attempt_timeout_s=0.1, on_unknown="report"), gate) as app:
        assert app.publish("orders", 1).outcomes(timeout_s=4.0)[0].status == "unknown"
        assert len(calls) == 1


def test_abandoned_workers_are_capped_and_shown(gate: threading.Event) -> None:
    """A handler that always hangs costs a bounded number of threads; then the channel is down, and says so."""
    calls = Seen()

    def handle(message: Any) -> None:
        calls.append(1)
        gate.wait(60)

    config = table(probe(handle), {"retries": 1_000}, attempt_timeout_s=0.05, max_restarts=1_000)
    with running(config, gate, stop_s=1.0) as app:
        receipt = app.publish("orders", 1, expires_s=2)
        assert until(lambda: status_of(app).state == "down")
        assert len(calls) <= 10
        stuck = [thread for thread in threading.enumerate() if thread.name == "rambla probe.orders worker 0"]
        assert 1 <= len(stuck) <= 10
        status = status_of(app)
        assert status.abandoned >= 1
        assert receipt.outcomes(timeout_s=TIMEOUT_S)[0].status == "expired"


def test_a_connect_that_hangs_is_given_up(gate: threading.Event) -> None:
    """The worker is replaced, and the next connect serves the message; no attempt is spent."""
    connects, closed = Seen(), Seen()

    def connect(self: Handler) -> int:
        connects.append(1)
        number = len(connects)
        if number == 1:
            gate.wait(TIMEOUT_S)
        return number

    handler = probe(
        lambda message: None, connect=connect, close=lambda self, connection: closed.append(connection)
    )
    with running(table(handler, attempt_timeout_s=0.15), gate) as app:
        outcome = app.publish("orders", 1).outcomes(timeout_s=4.0)[0]
        assert (outcome.status, outcome.attempts) == ("ok", 1)
        gate.set()
        assert closed.wait(1)[0] == 1


def test_a_connect_that_hangs_from_the_start_is_given_up(gate: threading.Event) -> None:
    """So it is on a channel that is not lazy, where nobody has published when it begins to hang."""
    connects = Seen()

    def connect(self: Handler) -> None:
        connects.append(1)
        if len(connects) == 1:
            gate.wait(TIMEOUT_S)

    with running(
        table(probe(lambda message: None, connect=connect), attempt_timeout_s=0.15, lazy=False), gate
    ) as app:
        connects.wait(1)
        assert app.publish("orders", 1).outcomes(timeout_s=4.0)[0].status == "ok"


@pytest.mark.parametrize("level", ["publish", "deliveries"])
def test_a_close_that_hangs_loses_nothing(level: str, gate: threading.Event) -> None:
    """What was in flight on the lost connection is tried again, although its close never returns."""
    connects, flights = Seen(), Seen()

    def close(self: Handler, connection: Any) -> None:
        gate.wait(60)

    def handle(message: Any) -> None:
        if len(connects) == 1:
            raise ConnectionLostError("gone")

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        flights.append(1)
        for delivery in deliveries:
            if len(connects) > 1:
                delivery.ok()
        if len(connects) == 1:
            self.link.lost(ConnectionLostError("gone"))

    members: Any = {"handle_deliveries": handle_deliveries} if level == "deliveries" else {"handle": handle}
    handler = probe(connect=connecting(connects), close=close, **members)
    with running(table(handler, attempt_timeout_s=0.2, batch_timeout_s=0.05), gate, stop_s=2.0) as app:
        receipt = app.publish_many("orders", range(5))
        assert {outcome.status for outcome in receipt.outcomes(timeout_s=5.0)} == {"ok"}


@pytest.mark.parametrize("name", ["on_success", "on_failure", "on_fatal", "on_outcome"])
@pytest.mark.parametrize("level", ["publish", "batch", "deliveries"])
def test_a_callback_that_hangs_is_given_up(name: str, level: str, gate: threading.Event) -> None:
    """As if it had said None: its delivery ends, the worker is replaced, and all the others have their outcomes."""
    asked = Seen()

    def hang(outcome: Any) -> None:
        asked.append(outcome)
        if len(asked) == 1:
            gate.wait(60)

    def answer(message: Any) -> Any:
        return Failed("no") if name in ("on_failure", "on_fatal") and message.payload < 3 else None

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            reply = answer(delivery)
            delivery.ok() if reply is None else delivery.failed(reply.reason)

    members: dict[str, dict[str, Any]] = {
        "publish": {"handle": answer},
        "batch": {"handle_batch": lambda self, messages, state: [answer(message) for message in messages]},
        "deliveries": {"handle_deliveries": handle_deliveries},
    }
    options = {"retries": 0, "callbacks": {name: hang}}
    with running(table(probe(**members[level]), options, attempt_timeout_s=0.2), gate, stop_s=2.0) as app:
        outcomes = app.publish_many("orders", range(6)).outcomes(timeout_s=5.0)
        bad = 3 if name in ("on_failure", "on_fatal") else 0
        assert [outcome.status for outcome in outcomes] == ["fatal"] * bad + ["ok"] * (6 - bad)
        assert app.publish("orders", 9).outcomes(timeout_s=5.0)[0].status == "ok"
        if name != "on_fatal" or level:
            assert until(lambda: len(asked) >= (3 if bad else 7)), f"{len(asked)} were asked"


def test_after_a_callback_hung_while_its_worker_was_listed_as_idle_the_next_message_is_delivered(
    gate: threading.Event,
) -> None:
    """No wake-up is lost to the worker that was given up."""
    taken = Seen()

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            taken.append(delivery)

    callbacks = {"on_failure": lambda outcome: outcome.payload == "hangs" and gate.wait(60)}
    config = table(
        probe(handle_deliveries=handle_deliveries),
        {"retries": 0, "callbacks": callbacks},
        attempt_timeout_s=0.15,
    )
    with running(config, gate, stop_s=2.0) as app:
        hangs = app.publish("orders", "hangs")
        taken.wait(1)[0].failed("no")
        assert hangs.outcomes(timeout_s=4.0)[0].status == "fatal"
        assert until(lambda: status_of(app).workers == ["up"])
        for number in range(2, 5):
            receipt = app.publish("orders", number)
            taken.wait(number, timeout_s=3.0)[-1].ok()
            assert receipt.outcomes(timeout_s=3.0)[0].status == "ok"


# -- external servers ---------------------------------------------------------------------------------


class Server:
    """An external server of the simplest kind: it notes its starts and stops, and dies when it is told to."""

    def __init__(self, name: str, log: Seen, *, stop_error: BaseException | None = None) -> None:
        self.name, self.log, self.living, self.stop_error = name, log, False, stop_error

    def start(self) -> Server:
        self.living = True
        self.log.append(f"start {self.name}")
        return self

    def stop(self) -> None:
        self.living = False
        self.log.append(f"stop {self.name}")
        if self.stop_error is not None:
            raise self.stop_error

    def spec(self) -> ChildSpec:
        return ChildSpec(
            self.name, self.start, stop=lambda handle: handle.stop(), alive=lambda handle: handle.living
        )


def with_servers(servers: Any, log: Seen, handle: Any = None, **members: Any) -> type[Handler]:
    """Return a handler with external servers; it notes its connects and closes in the same log."""
    return probe(
        handle or (lambda message: None),
        external_servers=lambda self, channel: servers,
        connect=lambda self: log.append("connect"),
        close=lambda self, connection: log.append("close"),
        **members,
    )


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
    """Rest for one: what stands before it stays, the pool is new, and other channels do not notice."""
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


def test_a_server_that_does_not_start_is_tried_again_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever its start raises: an error names it, messages wait, and a later start serves them."""
    log, tries = Seen(), Seen()

    def start() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise SystemExit("no port today")
        return 1

    with running(table(with_servers([ChildSpec("broker", start)], log))) as app:
        outcome = one(app)
        assert (outcome.status, outcome.attempts) == ("ok", 1)
    assert any("broker" in text and "no port today" in text for text in errors_in(caplog))


class External(pykka.ThreadingActor):
    """An external server that is a pykka actor."""

    use_daemon_thread = True
    started = Seen()

    def on_start(self) -> None:
        self.started.append(self.actor_ref)


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
    """Say whether a process runs; one that ended and was not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


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
        (Command(["no-such-program-anywhere"]), ["no-such-program-anywhere", "installed"]),
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
        assert until(lambda: supervisor(app, "service probe", "orders") is not None)
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
        for _ in range(2):
            assert until(lambda: status_of(app).workers == ["up"])
            kill_worker(app)
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
