"""Write records from a process of its own, printing each that is kept, until it is killed."""

from __future__ import annotations

import itertools
import sys

from rambla_py.state import store_from_url


def main(url: str, name: str, count: str) -> None:
    """Set ``name-0``, ``name-1`` and so on, after each of them a record that all share, and remove another.

    "restless" does nothing but to set one record, again and again.
    """
    with store_from_url(url) as store:
        if count == "restless":
            print(name, flush=True)
            while True:
                store.set(name, "x" * 1_000)
        numbers = itertools.count() if count == "forever" else range(int(count))
        for number in numbers:
            store.set(f"{name}-{number}", {"n": number, "fill": "x" * 20_000})
            store.set("common", name * 20_000)
            store.delete("shared-and-gone")
            store.set("shared-and-gone", name, expires_s=1e-6)
            print(number, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
