"""A ``multiprocessing`` child, forked, publishes through the app of its parent and returns."""

import multiprocessing

from _witness import await_delivered, publish, started


def run() -> None:
    publish(app)
    await_delivered(10)


app = started(rate="10/s")
child = multiprocessing.get_context("fork").Process(target=run)
child.start()
child.join()
assert child.exitcode == 0
