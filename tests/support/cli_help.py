"""What ``rambla ... --help`` prints."""

from __future__ import annotations

import re
from functools import cache

from typer.testing import CliRunner

from rambla_py.cli.program import app

__all__ = ["help_of", "options_of"]


@cache
def help_of(*command: str) -> str:
    """Return the help of a command, empty if there is none of that name."""
    done = CliRunner().invoke(app, [*command, "--help"], prog_name="rambla")
    return done.stdout if done.exit_code == 0 else ""


def options_of(*command: str) -> set[str]:
    """Return the long options that the help of a command lists."""
    return set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", help_of(*command), re.MULTILINE))
