"""Programs with a tracker, each run as a process; the first argument is a name, the second a URL."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from typing import Any

from rambla_py.analytics import Tracker


def leaves(url: str) -> None:
    """Track 25 events, and end without closing anything."""
    _track(Tracker(url), 25)


def exits(url: str) -> None:
    """The same, by ``SystemExit``."""
    _track(Tracker(url), 25)
    sys.exit(3)


def forks(url: str) -> None:
    """Track in the parent, and in three children that are forked in a context; each has its own account."""
    tracker = Tracker(url, batch_size=1_000)
    with tracker.context(request_id="r-1"):
        _track(tracker, 5)
        children = [child for child in range(3) if _forked(tracker)]
    assert len(children) == 3
    for _ in children:
        assert os.wait()[1] == 0
    _check(tracker, 5)


def _forked(tracker: Tracker) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        assert tracker.audit().tracked == 0
        _track(tracker, 7)
        _check(tracker, 7)
        code = 0
    finally:
        os._exit(code)


def multiprocesses(url: str) -> None:
    """Track in the processes of ``multiprocessing``, which end without closing anything."""
    tracker = Tracker(url)
    _track(tracker, 5)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_track, args=(tracker, 7)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


def greens(url: str) -> None:
    """Track in greenlets and threads of a process that gevent has patched."""
    tracker = Tracker(url)
    threads = [threading.Thread(target=_track, args=(tracker, 5)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _check(tracker, 25)


def samples(url: str) -> None:
    """Sample the system in the parent, and in a forked child from its first event on."""
    tracker = Tracker(url, batch_size=1)
    tracker.sample_system(0.05)
    pid = os.fork()
    _track(tracker, 1)
    gate = threading.Event()
    while tracker.audit().delivered < 3:
        gate.wait(0.01)
    tracker.close(20)
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
    else:
        os._exit(0)


def _track(tracker: Tracker, number: int) -> None:
    for at in range(number):
        tracker.track_payment("charge", at, "EUR", True)


def _check(tracker: Tracker, number: int) -> None:
    assert tracker.flush(60), tracker
    audit = tracker.audit()
    assert (audit.tracked, audit.delivered, audit.pending) == (number, number, 0), audit


def application(environ: Any, start: Any) -> list[bytes]:
    """Track one event for each request, with the tracker that was made before the workers were forked."""
    shared().track_payment("charge", 1, "EUR", True)
    start("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


_shared: list[Tracker] = []


def shared() -> Tracker:
    """Return the tracker of this process and its children."""
    if not _shared:
        _shared.append(Tracker(os.environ["EVENTS_URL"]))
        _track(_shared[0], 1)
    return _shared[0]


if os.environ.get("EVENTS_URL"):
    shared()


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
