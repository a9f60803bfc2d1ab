"""What messages cost, counted: calls of the library, system calls of Python code, switches between threads."""

from __future__ import annotations

import resource
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

from small_apps import until

import rambla_py
from rambla_py import Rambla

__all__ = ["Batch", "CountedCalls", "cost_of_publish", "least", "measure_batch"]

_WAIT_S = 60.0
"""Kombu sends 500 messages one after the other, on a busy machine in more than ten seconds."""

_OURS = str(Path(rambla_py.__file__).parent)
_NOT_COUNTED = str(Path(rambla_py.__file__).parent / "testing")
_SYSTEM_CALLS = frozenset(
    {"send", "sendall", "sendmsg", "sendto", "recv", "recv_into", "recvmsg"}
    | {"poll", "select", "control", "read", "write", "fsync", "fdatasync"}
)


class Batch(NamedTuple):
    """What one batch has cost, until every thread of the app waited again.

    ``calls``: made by code of the library, of Python and of C, and those that others make of it, by name.
    ``system_calls``: of sockets, selectors and files, made by any Python code, drivers included.
    ``switches``: how often a thread of the process went to sleep.
    """

    calls: Counter[str]
    system_calls: int
    switches: int


def least(batches: Sequence[Batch]) -> dict[str, int]:
    """Return the least that batches of one size have cost, of each name of a call by itself.

    Where threads overtake each other, some calls are made in one batch and others in the next, and only those
    that are made in each of them are a cost of the message.
    """
    names = set[str].intersection(*(set(batch.calls) for batch in batches))
    return {
        "calls": sum(min(batch.calls[name] for batch in batches) for name in names),
        "system_calls": min(batch.system_calls for batch in batches),
        "switches": min(batch.switches for batch in batches),
    }


class CountedCalls:
    """A profile function for all threads that start while it is installed; it counts while ``on``."""

    def __init__(self) -> None:
        self.on = False
        self.calls: Counter[str] = Counter()
        self.system_calls: Counter[str] = Counter()
        self._ours: dict[CodeType, bool] = {}

    def __call__(self, frame: FrameType, event: str, what: Any) -> None:
        if not self.on:
            return
        if event == "call":
            caller = frame.f_back
            if self._is_ours(frame.f_code) or (caller is not None and self._is_ours(caller.f_code)):
                self.calls[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            if self._is_ours(frame.f_code):
                self.calls[what.__qualname__] += 1
            if what.__name__ in _SYSTEM_CALLS:
                self.system_calls[what.__name__] += 1

    def _is_ours(self, code: CodeType) -> bool:
        ours = self._ours.get(code)
        if ours is None:
            file = code.co_filename
            ours = self._ours[code] = file.startswith(_OURS) and not file.startswith(_NOT_COUNTED)
        return ours

    @property
    def number(self) -> int:
        """How many calls it has counted."""
        return self.calls.total()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Have the threads that start meanwhile call it."""
        threading.setprofile(self)
        try:
            yield
        finally:
            threading.setprofile(None)  # type: ignore[arg-type]

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count, the calling thread included; first forget what was counted."""
        self.calls.clear()
        self.system_calls.clear()
        before = sys.getprofile()
        self.on = True
        sys.setprofile(self)
        try:
            yield
        finally:
            sys.setprofile(before)


def measure_batch(app: Rambla, counted: CountedCalls, payload: Any, size: int) -> Batch:
    """Publish a batch to ``orders``, wait for its outcome, and return what that cost."""
    payloads = [payload] * size
    _rest(app, counted)
    others, own = _switches_of_others(), _own_switches()
    with counted.counting():
        if size == 1:
            app.publish("orders", payload).result(timeout_s=_WAIT_S)
        else:
            app.publish_many("orders", payloads).result(timeout_s=_WAIT_S)
    own = _own_switches() - own
    _rest(app, counted)
    counted.on = False
    switches = own + _switches_of_others() - others
    return Batch(counted.calls.copy(), counted.system_calls.total(), switches)


def cost_of_publish(app: Rambla, counted: CountedCalls, payload: Any, number: int) -> tuple[float, float]:
    """Publish one by one while no worker takes anything; return the calls and the blocks of memory of each."""
    publish, receipts = app.publish, [None] * number
    calls = []
    for _ in range(5):  # the least of them: other threads of the app make calls, too, now and then
        with counted.counting():
            for _ in range(10):
                publish("orders", payload)
        counted.on = False
        calls.append(counted.number / 10)
    before = sys.getallocatedblocks()
    for at in range(number):
        receipts[at] = publish("orders", payload)  # type: ignore[call-overload]
    blocks = sys.getallocatedblocks() - before
    return min(calls), blocks / number


def _rest(app: Rambla, counted: CountedCalls) -> None:
    """Wait until nothing is in flight, the worker is idle, and no thread has made a call for a while."""
    (target,) = app._targets()
    looks: list[int] = []

    def rests() -> bool:
        looks.append(counted.number)
        still = len(looks) > 2 and looks[-1] == looks[-2] == looks[-3]
        return still and bool(target.wakeup.idle) and not target.in_flight()

    assert until(rests, poll_s=0.001)


def _own_switches() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def _switches_of_others() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - _own_switches()
