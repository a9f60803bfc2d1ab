"""A program that makes a lock at every point of a fork, and prints how many there are.

A fork takes each lock that exists, and has points there: in a process of its own there are few.
"""

from __future__ import annotations

import os

from interruptions import Point, every_point, interrupted_at

from rambla_py._internal.fork_lock import fork_lock, fork_rlock

FILES = ("_internal/fork_lock.py", "/weakref.py")
LOCKS = [fork_lock(), fork_rlock()]


def fork(number: int) -> Point:
    child = 0
    with interrupted_at(number, FILES, fork_rlock) as point:
        child = os.fork()
        if not child:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return point


print(every_point(fork))
