"""This module loads the configuration that a command was given."""

from __future__ import annotations

from pathlib import Path

import typer

from rambla_py.config import Config, load_config

__all__ = ["load"]


def load(ctx: typer.Context, file: Path | None) -> Config:
    """Load the file of the command, or the one given before the command, or the one that is found.

    Raises ``ConfigError``, which ends the program with exit code 78.
    """
    return load_config(file or ctx.obj)
