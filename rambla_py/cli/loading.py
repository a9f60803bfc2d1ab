"""Loading of the configuration that a command was given."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec
import typer

from rambla_py.config import Config, load_config
from rambla_py.config.problems import ProblemList
from rambla_py.config.raw_tree import plain
from rambla_py.config.reading import read
from rambla_py.errors import ConfigError

__all__ = ["load", "load_sound", "without_page"]


def load(ctx: typer.Context, file: Path | None) -> Config:
    """Load the file given after the command, or before it, or else the one that is found.

    Raises ``ConfigError``, which ends the program with exit code 78.
    """
    return load_config(file or ctx.obj)


def without_page(config: Config) -> Config:
    """Return it without the operations page: a command of seconds has none, and its port is the service's."""
    web = msgspec.structs.replace(config.rambla.web, enabled=False)
    return msgspec.structs.replace(config, rambla=msgspec.structs.replace(config.rambla, web=web))


def load_sound(ctx: typer.Context, file: Path | None, refused: ConfigError) -> Config | None:
    """Return the services of a refused configuration that have no problem, to check them all the same.

    None if there is no such service, or none that works without the others. Nothing may be published with it:
    an application does not start with this configuration.
    """
    wrong = {problem.path.partition(".")[0] for problem in refused.problems}
    reading = read(file or ctx.obj, os.environ, ProblemList())
    tree = plain(reading.tree)
    sound = {name: table for name, table in tree.items() if name not in wrong}
    if len(sound) == len(tree) or "rambla" in wrong:
        return None
    if isinstance(sound.get("rambla"), dict):
        sound["rambla"] = {key: value for key, value in sound["rambla"].items() if key != "include"}
    sound.pop("include", None)
    with suppress(ConfigError):
        found = load_config(sound)
        if found.services:
            return msgspec.structs.replace(found, files=tuple(reading.files))
    return None
