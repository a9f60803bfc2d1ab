"""A ``multiprocessing`` child, forked, publishes and calls ``app.stop()`` before it returns."""

import multiprocessing

from _witness import publish, started


def run() -> None:
    publish(app)
    app.stop()


app = started()
child = multiprocessing.get_context("fork").Process(target=run)
child.start()
publish(app)
child.join()
assert child.exitcode == 0
