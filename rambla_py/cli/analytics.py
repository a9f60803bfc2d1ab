"""The command ``rambla analytics``: what a server has tracked."""

from __future__ import annotations

from pathlib import Path

import typer

from rambla_py.cli.analytics_events import purge, schema
from rambla_py.cli.analytics_jitsu import jitsu_function
from rambla_py.cli.analytics_report import report
from rambla_py.cli.parameters import ConfigFile

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def analytics(ctx: typer.Context, config: ConfigFile = None) -> None:
    """Read what trackers have recorded, describe it, and delete it."""
    found: Path | None = config or ctx.obj
    ctx.obj = found


app.command()(report)
app.command()(jitsu_function)
app.command()(schema)
app.command()(purge)
