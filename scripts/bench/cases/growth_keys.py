"""The cases that are curves over keys, targets of a fan-out, and parked retries."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import rambla_py as rambla
from bench.case import Case, Context, Figures, Growth, stopwatch
from bench.cases.null import null_app
from rambla_py.handlers.null import NullHandler

__all__ = ["GROWTH_KEYS"]

TEXT = "x" * 200
FAILING = "this one fails"
KEYS = (1, 10, 100, 1_000, 10_000, 100_000)
TARGETS = (2, 4, 8, 16, 32)
PARKED = (100, 1_000, 10_000, 100_000)

_FIGURE = "CPU us a message"


class FailsHandler(NullHandler):
    """Accepts every message but those that are to fail, which it counts."""

    takes = "object"
    failed = 0

    def handle_batch(self, messages: Sequence[Any], state: Any) -> list[Any]:
        """Return an error for each message that is to fail."""
        answers = [rambla.DeliveryError("not now") if one.payload == FAILING else None for one in messages]
        FailsHandler.failed += len(answers) - answers.count(None)
        return answers


def _over_keys(context: Context) -> Figures:
    return {f"{_FIGURE} {number}": _with_keys(number, context.count(200_000)) for number in KEYS}


def _with_keys(number: int, count: int) -> float:
    keys = [f"customer-{at}" for at in range(number)]
    with null_app() as app:
        publish = app.publish
        publish("demo", TEXT).result(timeout_s=10)
        with stopwatch() as watch:
            for at in range(count):
                publish("demo", TEXT, key=keys[at % number])
            app.flush()
    return watch.cpu_s / count * 1e6


def _over_targets(context: Context) -> Figures:
    return {f"{_FIGURE} {number}": _with_targets(number, context.count(20_000)) for number in TARGETS}


def _with_targets(number: int, count: int) -> float:
    channels = {"demo": {"max_pending": 1_000_000}}
    services = {f"null{at}": {"handler": "null", "channels": channels} for at in range(number)}
    with rambla.Rambla(services) as app:
        publish = app.publish
        publish("demo", TEXT).result(timeout_s=10)
        with stopwatch() as watch:
            for _ in range(count):
                publish("demo", TEXT)
            app.flush()
        assert sum(audit.ok for audit in app.audit().values()) == (count + 1) * number
    return watch.cpu_s / count * 1e6


def _over_parked(figure: str) -> Callable[[Context], Figures]:
    def run(context: Context) -> Figures:
        count = context.count(100_000)
        return {f"{_FIGURE} {number}": _with_parked(number, count)[figure] for number in PARKED}

    return run


def _with_parked(number: int, count: int) -> dict[str, float]:
    """Let ``number`` messages fail, which are then parked for years; publish ``count`` others beside them."""
    options = {"retries": 3, "backoff": {"initial_s": 1e8, "max_s": 1e8}}
    channel = {"max_pending": 1_000_000, "options": options}
    table = {"null": {"handler": "bench.cases.growth_keys:FailsHandler", "channels": {"demo": channel}}}
    FailsHandler.failed = 0
    app = rambla.Rambla(table).start()
    try:
        publish = app.publish
        publish("demo", TEXT).result(timeout_s=10)
        with stopwatch() as failing:
            for _ in range(number):
                publish("demo", FAILING)
            while FailsHandler.failed < number or app.status()["null.demo"].in_flight:
                time.sleep(0.01)
        receipts = [None] * count
        with stopwatch() as working:
            for at in range(count):
                receipts[at] = publish("demo", TEXT)  # type: ignore[call-overload]
            receipts[-1].result(timeout_s=60)  # type: ignore[attr-defined]
        assert app.audit()["null.demo"].ok == count + 1
    finally:
        app.stop(timeout_s=30)
    return {"fail": failing.cpu_s / number * 1e6, "work": working.cpu_s / count * 1e6}


GROWTH_KEYS = (
    Case(
        name="growth_keys",
        title="processor time of a message over the number of keys, used in turn",
        contenders={"null": _over_keys},
        plot="keys",
        growth=(Growth("null", most=0.2),),
    ),
    Case(
        name="growth_targets",
        title="processor time of a message over the targets of a fan-out",
        contenders={"null": _over_targets},
        plot="targets",
        growth=(Growth("null"),),
    ),
    Case(
        name="growth_parked",
        title="processor time of a message over what waits for a retry",
        contenders={
            "published beside them": _over_parked("work"),
            "failed and parked": _over_parked("fail"),
        },
        plot="parked retries",
        growth=(Growth("published beside them", most=0.2), Growth("failed and parked", most=0.2)),
    ),
)
