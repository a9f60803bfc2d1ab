"""A program that interrupts forks at every point, and prints how many points there are.

With the argument ``make``, the signal handler makes a lock; with ``raise``, it raises, and the locks must be
free afterwards on both sides of the fork, for other threads too. A fork takes each lock that exists, and has
points there: in a process of its own there are few.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from interruptions import Point, every_point, interrupted_at

from rambla_py._internal import fork_lock as module
from rambla_py._internal.fork_lock import fork_lock, fork_rlock

FILES = ("_internal/fork_lock.py", "/weakref.py")
LOCKS = [fork_lock(), fork_rlock()]
FREE_S = 5.0


class InterruptedForkError(BaseException):
    """What a signal handler raises."""


def interrupt() -> None:
    raise InterruptedForkError


def forks(number: int, action: Callable[[], object]) -> Point:
    child = 0
    with interrupted_at(number, FILES, action) as point:
        child = os.fork()
        if not child:
            sys.settrace(None)
            os._exit(0 if all_free() else 1)
    assert os.waitpid(child, 0)[1] == 0, f"held in the child after point {number}"
    assert all_free(), f"held in the parent after point {number}"
    return point


def all_free() -> bool:
    """Return whether another thread gets each lock."""
    got: list[bool] = []

    def take() -> None:
        for lock in (module._guard, *LOCKS):
            got.append(lock.acquire(timeout=FREE_S))
            if got[-1]:
                lock.release()

    other = threading.Thread(target=take)
    other.start()
    other.join()
    return all(got) and not module._held


action = {"make": fork_rlock, "raise": interrupt}[sys.argv[1]]
print(every_point(lambda number: forks(number, action)))
