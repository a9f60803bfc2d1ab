"""DESIGN 5: which threads an app has, and who starts them."""

from __future__ import annotations

import contextlib
import inspect
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from small_apps import TIMEOUT_S, Seen, one, probe, running, service, table, until
from supervision_cases import tree_of

from rambla_py import ConnectionLostError, Handler, Rambla
from rambla_py._internal.side_threads import SideThread, adopt, run_on_thread


def ours() -> set[threading.Thread]:
    """Return the threads of the library that run."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("rambla")}


def test_a_thousand_channels_need_their_workers_and_a_timer() -> None:
    """An app that has published to 1,000 channels has 1,000 workers and at most 8 other threads."""
    before = ours()
    names = [f"c{number}" for number in range(1_000)]
    channels = {name: {"connection": "here"} for name in names}
    config = {"null": {"connections": {"here": {}}, "channels": channels}}
    with Rambla(config) as app:
        for name in names:
            app.publish(name, 1)
        assert app.flush(TIMEOUT_S)
        assert 1_000 <= len(ours() - before) <= 1_008
    assert until(lambda: not ours() - before)


def test_the_first_publish_starts_the_whole_chain_in_its_own_thread() -> None:
    """When ``publish`` returns, the workers of the target and of every fallback run; those of others do not."""
    channels: dict[str, Any] = {
        "a": {"fallback": "b", "count": 2},
        "b": {"fallback": "c"},
        "c": {},
        "other": {},
    }
    before = ours()
    with running({"probe": service(probe(lambda message: None), **channels)}) as app:
        app.publish("a", 1)
        workers = sorted(thread.name for thread in ours() - before if "worker" in thread.name)
        assert workers == [
            "rambla probe.a worker 0",
            "rambla probe.a worker 1",
            "rambla probe.b worker 0",
            "rambla probe.c worker 0",
        ]


def test_a_handler_is_made_on_its_workers_thread() -> None:
    """A constructor that takes its time delays no publisher."""
    makers = Seen()

    class Slow(Handler):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            makers.append(threading.current_thread().name)

        def handle_publish(self, message: Any, options: Any, state: Any) -> None:
            pass

    with running(table(Slow)) as app:
        assert one(app).status == "ok"
    assert makers == ["rambla probe.orders worker 0"]


def test_the_first_publish_starts_the_thread_of_an_event_loop_too() -> None:
    """An async handler needs one beside its worker's; after a loss the next loop runs on the same thread."""
    loops = Seen()

    async def connect(self: Handler) -> None:
        loops.append(threading.current_thread())

    async def handle_publish(self: Handler, message: Any, options: Any, state: Any) -> None:
        if len(loops) == 1:
            raise ConnectionLostError("once")

    before = ours()
    with running(table(probe(connect=connect, handle_publish=handle_publish))) as app:
        app.publish("orders", 1)
        started = ours() - before
        assert one(app).status == "ok"
        assert len(loops) == 2
        assert set(loops) <= started
    assert until(lambda: not ours() - before)


def test_a_side_thread_runs_one_call_at_a_time() -> None:
    """A second call at the same time gets a thread of its own; the side thread takes the next one."""
    side, gate = SideThread("side"), threading.Event()
    names = Seen()

    def note() -> None:
        names.append((threading.current_thread().name, threading.get_ident()))
        gate.wait(TIMEOUT_S)

    adopt([side])
    try:
        running_calls = [run_on_thread(note, f"call {number}") for number in range(2)]
        names.wait(2)
        assert all(call.is_alive() for call in running_calls)
        gate.set()
        for call in running_calls:
            call.join(TIMEOUT_S)
        run_on_thread(note, "call 2").join(TIMEOUT_S)
    finally:
        adopt([])
        side.close()
    assert side.try_run(note, "call 3") is None  # it ends, and would never run it
    by_name = dict(names)
    assert by_name["call 0"] == by_name["call 2"] != by_name["call 1"]


def test_a_worker_that_cannot_start_is_logged_without_the_lock_of_its_pool() -> None:
    """A log handler may publish, or wait for a thread that does."""
    came, free = threading.Event(), Seen()

    class Threads(int):
        def __radd__(self, other: int) -> int:
            raise RuntimeError("can't start new thread")

        __add__ = __radd__

    class Waiting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "cannot start" in record.getMessage() and not free:
                other = threading.Thread(target=take, daemon=True)
                other.start()
                other.join(TIMEOUT_S)

    def take() -> None:
        lock = pool._lock
        free.append(lock.acquire(timeout=1.0))
        if free[0]:
            lock.release()
        came.set()

    waiting, logger = Waiting(), logging.getLogger("rambla_py.pool")
    logger.addHandler(waiting)
    handler = probe(lambda message: None, _side_threads=Threads(0))
    try:
        with running(table(handler), stop_s=0.5) as app:
            pool = tree_of(app)._channel_of(app._targets()[0]).pool
            app.publish("orders", 1)
            assert came.wait(TIMEOUT_S)
    finally:
        logger.removeHandler(waiting)
    assert free == [True]


def test_a_publish_that_meets_the_recursion_limit_leaves_the_channel_working() -> None:
    """Wherever in the first publish it is met, the next message starts the workers, and both end."""
    for left in range(2, 40):
        with Rambla({"memory": {"channels": {"c": {}}}}) as app:
            depth = sys.getrecursionlimit() - len(inspect.stack()) - left
            with contextlib.suppress(RecursionError):
                _at_depth(depth, lambda: app.publish("c", "first"))
            assert app.publish("c", "second").outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"
            app.flush(timeout_s=TIMEOUT_S)
            assert app.audit()["memory.c"].pending == 0


def _at_depth(calls: int, call: Callable[[], object]) -> object:
    """Call a function with so many calls on the stack."""
    return call() if calls == 0 else _at_depth(calls - 1, call)
