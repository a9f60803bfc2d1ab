"""The command ``rambla schema``."""

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

    It covers every handler that can be loaded, with its connections and options. It does not depend on the
    configuration: --config is accepted and ignored. The output is JSON with and without --json.
    """
    show_json(json_schema())
