"""The command line: ``rambla``, or ``python -m rambla_py``."""

from rambla_py.cli.program import main

__all__ = ["main"]
