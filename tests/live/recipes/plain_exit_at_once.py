"""The program ends right after its first publish: no worker is up yet."""

from _witness import publish, started

publish(started(rate="1000/s"), 3)
