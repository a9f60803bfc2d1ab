"""The program ends right after its first publish, and no thread starts any more: Python 3.12 and later."""

import threading

from _witness import publish, started


def refuse(*arguments: object) -> int:
    raise RuntimeError("can't create new thread at interpreter shutdown")


publish(started(rate="1000/s"), 3)
threading._start_new_thread = refuse  # what the later interpreters do by themselves
