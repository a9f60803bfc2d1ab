"""This module tells apps what happens to their process: its end, and a fork of it."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import Protocol

from rambla_py.actors.inside import leave_worker

__all__ = ["Resident", "hook_multiprocessing", "move_in", "move_out"]


class Resident(Protocol):
    """What runs in a process and outlives neither its end nor a fork."""

    def settle_in(self) -> None:
        """Do what needs new threads: soon none can be started."""

    def stop_at_exit(self) -> None:
        """End; no thread can be started any more."""

    def after_fork(self) -> None:
        """Take note that this process is a child, and all that ran is its parent's."""


_residents: set[Resident] = set()
"""Those that run: an app that nobody holds any more is stopped properly, too."""


def move_in(resident: Resident) -> None:
    """Tell it what happens from now on."""
    _residents.add(resident)


def move_out(resident: Resident) -> None:
    """Tell it no more."""
    _residents.discard(resident)


def hook_multiprocessing() -> None:
    """Have a child of multiprocessing stop its residents: it ends with ``os._exit``, which skips atexit."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _stop_all, exitpriority=100)


def _stop_all() -> None:
    for resident in list(_residents):
        resident.stop_at_exit()


def _forked() -> None:
    leave_worker()
    for resident in list(_residents):
        resident.after_fork()


def _settle_all_in() -> None:
    for resident in list(_residents):
        resident.settle_in()


atexit.register(_stop_all)
# Private, and what concurrent.futures stands on: it runs before threads can no longer be started, where
# atexit runs after. Without it, a script that publishes and ends at once would drop all on 3.12 and later.
with contextlib.suppress(AttributeError):
    threading._register_atexit(_settle_all_in)  # type: ignore[attr-defined]  # private
os.register_at_fork(after_in_child=_forked)
