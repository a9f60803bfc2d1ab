"""The program ends right after its first publish, and then no thread starts any more: Python 3.12 and later."""

import threading


def refuse(*arguments: object) -> int:
    raise RuntimeError("can't create new thread at interpreter shutdown")


def end() -> None:
    threading._start_new_thread = refuse  # what the later interpreters do by themselves


# These hooks run in reverse when the main thread has ended: this one after that of rambla_py.
threading._register_atexit(end)

from _witness import publish, started  # noqa: E402 - see above

publish(started(rate="1000/s", exit_timeout_s=2), 3)
