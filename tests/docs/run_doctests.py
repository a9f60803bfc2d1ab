"""Run the doctests of the package and of the page reader, and print the counts.

A process of its own, since doctests register handlers and name stores that other tests would see.
"""

from __future__ import annotations

import doctest
import importlib
import json
import os
import pkgutil
from pathlib import Path
from types import ModuleType

import rambla_py


def main() -> None:
    """Print ``{module: [failed, attempted]}``; failures are printed above it."""
    names = [module.name for module in pkgutil.walk_packages(rambla_py.__path__, "rambla_py.")]
    names = ["pages", "rambla_py", *(name for name in names if not name.endswith("__main__"))]
    modules = {name: module for name in names if (module := _imported(name))}
    # To search a module for examples takes 20 ms; two of three have none.
    counts = {name: list(doctest.testmod(module)) for name, module in modules.items() if _shows(module)}
    print(json.dumps(counts))


def _imported(name: str) -> ModuleType | None:
    """Import a module; None if a third-party package of its own is not installed, which CI has all of."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if os.environ.get("CI") == "true" or (error.name or "").startswith("rambla_py"):
            raise
        return None


def _shows(module: ModuleType) -> bool:
    return ">>>" in Path(str(module.__file__)).read_text("utf-8")


if __name__ == "__main__":
    main()
