"""This module is the door of the command line: ``rambla``, and ``python -m rambla_py``."""

from rambla_py.cli.program import main

__all__ = ["main"]
