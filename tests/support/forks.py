"""A forked child of the test's own process."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable


def in_child(run: Callable[[], object]) -> int:
    """Run in a forked child; return 0 if it did not raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork of a process with threads is the point
        pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        run()
        code = 0
    finally:
        os._exit(code)
