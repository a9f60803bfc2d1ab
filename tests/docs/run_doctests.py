"""Run the doctests of the package and of the page reader, and print the counts.

A process of its own, since doctests register handlers and name stores that other tests would see.
"""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil

import rambla_py


def main() -> None:
    """Print ``{module: [failed, attempted]}``; failures are printed above it."""
    names = [module.name for module in pkgutil.walk_packages(rambla_py.__path__, "rambla_py.")]
    names = ["pages", "rambla_py", *(name for name in names if not name.endswith("__main__"))]
    counts = {name: list(doctest.testmod(importlib.import_module(name))) for name in names}
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
