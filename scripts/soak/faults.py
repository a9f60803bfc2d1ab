"""The fault scripts of the soak: each breaks one thing again and again, and reports how often it did."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from rambla_py.testing.faults import FaultProxy
from soak.targets import Target

__all__ = ["SCRIPTS", "Publisher"]


class Publisher(Protocol):
    """The process that publishes."""

    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def start(self) -> None: ...


Script = Callable[[FaultProxy, Target, Publisher], int]
"""One round of a fault; returns how many connections, or processes, it has hit."""


def _hit(proxy: FaultProxy) -> int:
    return proxy.cuts + proxy.resets + proxy.half_closes


def _cut(proxy: FaultProxy, target: Target, publisher: Publisher) -> int:
    time.sleep(1.0)
    before = _hit(proxy)
    proxy.cut()
    return _hit(proxy) - before


def _reset(proxy: FaultProxy, target: Target, publisher: Publisher) -> int:
    time.sleep(1.0)
    before = _hit(proxy)
    proxy.reset()
    return _hit(proxy) - before


def _half_close(proxy: FaultProxy, target: Target, publisher: Publisher) -> int:
    time.sleep(1.0)
    before = _hit(proxy)
    proxy.half_close()
    time.sleep(0.5)
    return _hit(proxy) - before


def _refuse(proxy: FaultProxy, target: Target, publisher: Publisher) -> int:
    time.sleep(1.0)
    proxy.refuse()
    proxy.cut()
    time.sleep(1.5)
    proxy.accept()
    return 1


def _delay(proxy: FaultProxy, target: Target, publisher: Publisher) -> int:
    proxy.delay(0.3)
    time.sleep(2.0)
    proxy.delay(0.0)
    time.sleep(0.5)
    return 1


def _throttle(proxy: FaultProxy, target: Target, publisher: Publisher) -> int:
    proxy.throttle(20_000)
    time.sleep(2.0)
    proxy.throttle(0)
    time.sleep(0.5)
    return 1


def _black_hole(proxy: FaultProxy, target: Target, publisher: Publisher) -> int:
    time.sleep(0.5)
    before = proxy.swallowed
    proxy.black_hole(True)
    time.sleep(3.0)
    proxy.black_hole(False)
    proxy.cut()
    return int(proxy.swallowed > before)


def _cut_requests(proxy: FaultProxy, target: Target, publisher: Publisher) -> int:
    before = _hit(proxy)
    proxy.cut_after(5_000, direction="up")
    time.sleep(1.0)
    return _hit(proxy) - before


def _cut_answers(proxy: FaultProxy, target: Target, publisher: Publisher) -> int:
    before = _hit(proxy)
    proxy.cut_after(300, direction="down")
    time.sleep(1.0)
    return _hit(proxy) - before


def _pause_server(proxy: FaultProxy, target: Target, publisher: Publisher) -> int:
    time.sleep(0.5)
    target.server.pause()
    time.sleep(3.0)
    target.server.resume()
    return 1


def _kill_server(proxy: FaultProxy, target: Target, publisher: Publisher) -> int:
    time.sleep(2.0)
    target.server.kill()
    time.sleep(0.3)
    target.server.start()
    return 1


def _stop_server(proxy: FaultProxy, target: Target, publisher: Publisher) -> int:
    time.sleep(2.0)
    target.server.stop()
    time.sleep(0.3)
    target.server.start()
    return 1


def _stop_publisher(proxy: FaultProxy, target: Target, publisher: Publisher) -> int:
    time.sleep(1.0)
    publisher.stop()
    publisher.start()
    return 1


def _kill_publisher(proxy: FaultProxy, target: Target, publisher: Publisher) -> int:
    time.sleep(1.0)
    publisher.kill()
    publisher.start()
    return 1


SCRIPTS: dict[str, Script] = {
    "cut": _cut,
    "reset": _reset,
    "half closed": _half_close,
    "refused": _refuse,
    "delayed": _delay,
    "throttled": _throttle,
    "black hole": _black_hole,
    "cut in requests": _cut_requests,
    "cut in answers": _cut_answers,
    "server paused": _pause_server,
    "server killed": _kill_server,
    "server stopped": _stop_server,
    "publisher stopped": _stop_publisher,
    "publisher killed": _kill_publisher,
}
