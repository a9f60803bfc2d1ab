"""Nobody holds the app any more when the program ends."""

import gc

from _witness import publish, started


def main() -> None:
    publish(started())


main()
gc.collect()
