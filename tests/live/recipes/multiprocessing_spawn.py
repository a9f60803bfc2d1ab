"""A ``multiprocessing`` child, spawned, starts an app of its own, publishes and returns."""

import multiprocessing

from _witness import publish, started


def run() -> None:
    publish(started())


if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=run)
    child.start()
    child.join()
    assert child.exitcode == 0
