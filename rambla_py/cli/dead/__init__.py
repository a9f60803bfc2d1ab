"""The command ``rambla dead``: dead letters of an outbox."""

import typer

from rambla_py.cli.dead.listing import export, list_groups, show_letter
from rambla_py.cli.dead.removal import drop_letters
from rambla_py.cli.dead.replay import replay_letters
from rambla_py.cli.parameters import ConfigFile

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def dead(ctx: typer.Context, config: ConfigFile = None) -> None:
    """List, show, replay, drop and export dead letters: messages that failed for good, with their errors."""
    ctx.obj = config or ctx.obj


app.command("list")(list_groups)
app.command("show")(show_letter)
app.command("replay")(replay_letters)
app.command("drop")(drop_letters)
app.command("export")(export)
