"""The cases without a server: what publishing itself costs."""

from __future__ import annotations

import threading

import pykka

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal, rate, stopwatch

__all__ = ["NULL", "ROUND_TRIP", "null_app"]

PAYLOAD = {"id": 42, "text": "x" * 200}


def null_app(**channel: object) -> rambla.Rambla:
    """Return an app with one channel, ``demo``, whose handler does nothing."""
    settings = {"max_pending": 3_000_000, "options": {"expires_s": 900}, **channel}
    return rambla.Rambla({"null": {"channels": {"demo": settings}}})


def _publish(context: Context) -> Figures:
    count = context.count(300_000)
    with null_app() as app:
        app.publish("demo", PAYLOAD).result(timeout_s=10)
        publish = app.publish
        with stopwatch() as watch:
            receipts = [publish("demo", PAYLOAD) for _ in range(count)]
            app.flush()
        _check(app, count + 1)
        assert all(receipt.done() for receipt in receipts)
        return rate(count, watch)


def _publish_in_threads(context: Context) -> Figures:
    count, publishers = context.count(300_000), 4
    kept: list[list[rambla.Receipt]] = []
    with null_app() as app:
        app.publish("demo", PAYLOAD).result(timeout_s=10)

        def publish_a_share() -> None:
            publish = app.publish
            kept.append([publish("demo", PAYLOAD) for _ in range(count // publishers)])

        threads = [threading.Thread(target=publish_a_share) for _ in range(publishers)]
        with stopwatch() as watch:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            app.flush()
        sent = count // publishers * publishers
        _check(app, sent + 1)
        assert all(receipt.done() for share in kept for receipt in share)
        return rate(sent, watch)


def _publish_many(context: Context) -> Figures:
    count = context.count(300_000)
    with null_app() as app:
        app.publish("demo", PAYLOAD).result(timeout_s=10)
        payloads = [PAYLOAD] * count
        with stopwatch() as watch:
            app.publish_many("demo", payloads).result()
        _check(app, count + 1)
        return rate(count, watch)


def _check(app: rambla.Rambla, count: int) -> None:
    audit = app.audit()["null.demo"]
    assert audit.balanced, audit
    assert audit.ok == audit.accepted == count, audit


class _Silent(pykka.ThreadingActor):
    def on_receive(self, message: object) -> None:
        """Do nothing."""


def _tell(context: Context) -> Figures:
    count, actor = context.count(100_000), _Silent.start()
    with stopwatch() as watch:
        for _ in range(count):
            actor.tell(PAYLOAD)
        actor.ask(None)
    actor.stop()
    return rate(count, watch)


def _round_trip(context: Context) -> Figures:
    count = context.count(20_000)
    with null_app() as app:
        app.publish("demo", PAYLOAD).result(timeout_s=10)
        with stopwatch() as watch:
            for _ in range(count):
                app.publish("demo", PAYLOAD).result()
        return rate(count, watch)


def _ask(context: Context) -> Figures:
    count, actor = context.count(20_000), _Silent.start()
    actor.ask(None)
    with stopwatch() as watch:
        for _ in range(count):
            actor.ask(PAYLOAD)
    actor.stop()
    return rate(count, watch)


NULL = Case(
    name="null",
    title="publish to a handler that does nothing, every receipt resolved",
    contenders={
        "rambla publish": _publish,
        "rambla publish, four threads": _publish_in_threads,
        "rambla publish_many": _publish_many,
        "pykka tell": _tell,
    },
    goals=(
        Goal("publish / pykka tell, rate", "rambla publish", "pykka tell"),
        Goal("CPU of pykka tell / publish (at least 6)", "pykka tell", "rambla publish", "cpu_us", least=6.0),
        Goal("four threads / one (at least 1)", "rambla publish, four threads", "rambla publish", least=1.0),
    ),
)

ROUND_TRIP = Case(
    name="round_trip",
    title="publish(...).result() beside pykka ask, one after the other",
    contenders={"rambla publish().result()": _round_trip, "pykka ask": _ask},
    goals=(Goal("result() / ask (at least 1)", "rambla publish().result()", "pykka ask", least=1.0),),
)
