"""This module is the command ``rambla schema``."""

from __future__ import annotations

import typer

from rambla_py.cli.parameters import AsJson, ConfigFile
from rambla_py.cli.terminal import show_json
from rambla_py.config import json_schema

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
def schema(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Print the JSON Schema of a configuration file, for editors.

    It knows every handler that can be loaded here, with its connections and options, and is the same for
    every file: --config is taken, as by each command, and not read. It is JSON with or without --json.
    """
    show_json(json_schema())
