"""Two apps in one process; one of them is stopped while the other goes on."""

from _witness import publish, started

first, second = started(), started()
publish(first)
publish(second)
first.stop()
publish(second, 10)
