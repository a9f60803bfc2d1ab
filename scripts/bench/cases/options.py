"""The case of what options, captures and observers cost beside a plain publish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal, rate, stopwatch
from rambla_py.handlers.null import NullHandler

__all__ = ["OPTIONS"]

PAYLOAD = "x" * 200
TEN_FIELDS = {f"field_{at}": at if at % 2 else f"value {at}" for at in range(10)}
KEYS = [f"customer-{at}" for at in range(1_000)]

Publish = Callable[[rambla.Rambla, int], Callable[[], list[rambla.Receipt]]]


class TakesObjects(NullHandler):
    """Accepts every message, with a copy of its payload."""

    takes = "object"


class TakesBytes(NullHandler):
    """Accepts every message, with its payload as JSON."""

    takes = "bytes"


def _app(handler: Any) -> rambla.Rambla:
    channel = {"max_pending": 3_000_000, "options": {"expires_s": 900}}
    service = {"handler": handler, "channels": {"demo": channel, "both": channel}}
    other = {"handler": handler, "channels": {"both": channel}}
    return rambla.Rambla({"null": service, "other": other})


def _contender(publish: Publish, *, handler: Any = "null", targets: int = 1) -> Callable[[Context], Figures]:
    def run(context: Context) -> Figures:
        count = context.count(100_000)
        with _app(handler) as app:
            app.publish("demo" if targets == 1 else "both", PAYLOAD).result(timeout_s=10)
            work = publish(app, count)
            with stopwatch() as watch:
                receipts = work()
                app.flush()
            assert all(receipt.done() for receipt in receipts)
            assert sum(audit.ok for audit in app.audit().values()) == (count + 1) * targets
            return rate(count, watch)

    return run


def _with(payload: Any = PAYLOAD, channel: str = "demo", **options: Any) -> Publish:
    def prepare(app: rambla.Rambla, count: int) -> Callable[[], list[rambla.Receipt]]:
        publish = app.publish
        if options:
            return lambda: [publish(channel, payload, **options) for _ in range(count)]
        return lambda: [publish(channel, payload) for _ in range(count)]

    return prepare


def _keys(app: rambla.Rambla, count: int) -> Callable[[], list[rambla.Receipt]]:
    publish, many = app.publish, len(KEYS)
    return lambda: [publish("demo", PAYLOAD, key=KEYS[at % many]) for at in range(count)]


def _bound_keys(app: rambla.Rambla, count: int) -> Callable[[], list[rambla.Receipt]]:
    bound, many = [app.channel("demo", key=key).publish for key in KEYS], len(KEYS)
    return lambda: [bound[at % many](PAYLOAD) for at in range(count)]


def _messages(app: rambla.Rambla, count: int) -> Callable[[], list[rambla.Receipt]]:
    publish, message = app.publish, rambla.Message
    return lambda: [publish("demo", message(PAYLOAD)) for _ in range(count)]


def _bound(**options: Any) -> Publish:
    def prepare(app: rambla.Rambla, count: int) -> Callable[[], list[rambla.Receipt]]:
        publish = app.channel("demo", **options).publish
        return lambda: [publish(PAYLOAD) for _ in range(count)]

    return prepare


class _Observer:
    """Counts, and does nothing else."""

    count = 0

    def ended(self, target: Any, deliveries: Any, status: str) -> None:
        """Count the deliveries that ended."""
        self.count += len(deliveries)


def _observed(app: rambla.Rambla, count: int) -> Callable[[], list[rambla.Receipt]]:
    observer: Any = _Observer()  # it has one of the methods only
    app.observe(observer)
    return _with()(app, count)


PLAIN = "plain"
_CONTENDERS = {
    PLAIN: _contender(_with()),
    "key=": _contender(_keys),
    "key=, one key": _contender(_with(key=KEYS[0])),
    "id=": _contender(_with(id="order-42")),
    "headers=": _contender(_with(headers={"trace": "00-1"})),
    "retries=": _contender(_with(retries=3)),
    "expires_s=": _contender(_with(expires_s=100.0)),
    "priority=": _contender(_with(priority="high")),
    "serializer=": _contender(_with(serializer="msgpack")),
    "Message(p)": _contender(_messages),
    "channel": _contender(_bound()),
    "channel, retries=": _contender(_bound(retries=3)),
    "channel, key=": _contender(_bound(key=KEYS[0])),
    "channels, key=": _contender(_bound_keys),
    "channel, headers=": _contender(_bound(headers={"trace": "00-1"})),
    "channel, expires_s=": _contender(_bound(expires_s=100.0)),
    "channel, priority=": _contender(_bound(priority="high")),
    "ten fields, object": _contender(_with(TEN_FIELDS), handler=TakesObjects),
    "ten fields, bytes": _contender(_with(TEN_FIELDS), handler=TakesBytes),
    "two targets": _contender(_with(channel="both"), targets=2),
    "observer": _contender(_observed),
}
_MOST = {
    **{name: 1.5 for name in _CONTENDERS if name.startswith("channel")},
    "key=": 3.0,
    "key=, one key": 3.0,
    "two targets": 3.0,  # 1.5 a delivery
    "observer": 1.1,
}

OPTIONS = Case(
    name="options",
    title="publish to a handler that does nothing, with options, captures and observers",
    contenders=_CONTENDERS,
    goals=tuple(
        Goal(
            f"CPU of {name} / plain (at most {_MOST.get(name, 2.0):g})",
            name,
            PLAIN,
            figure="cpu_us",
            most=_MOST.get(name, 2.0),
        )
        for name in _CONTENDERS
        if name != PLAIN
    ),
)
